"""Logging of a run: a readable terminal and a complete logs/train.log, neither of which can be flooded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from loguru import logger

if TYPE_CHECKING:
    from loguru import Message

TERMINAL_FORMAT = "{message}"
FILE_FORMAT = "{time:YYYY-MM-DD HH:mm:ss.SSS} {level:<8} {name}: {message}"


class FoldingSink:
    """Writes lines to a stream; identical neighbours become one line and "×N"."""

    def __init__(self, stream: IO[str], *, closes: bool = False) -> None:
        """`closes` says that the stream belongs to the sink and is closed with it."""
        self._stream = stream
        self._closes = closes
        self._last: str | None = None
        self._repeats = 0

    def write(self, message: Message) -> None:
        """One formatted line. A disk that refuses loses the line, never the run."""
        text = str(message)
        key = f"{message.record['level'].name} {message.record['message']}"
        try:
            if key == self._last:
                self._repeats += 1
                return
            self.flush_repeats()
            self._last = key
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            return

    def flush_repeats(self) -> None:
        """Say how often the last line came again."""
        if self._repeats:
            self._stream.write(f"  (the line above ×{self._repeats + 1})\n")
            self._stream.flush()
        self._repeats = 0

    def stop(self) -> None:
        """Called by loguru when the sink is removed."""
        try:
            self.flush_repeats()
            if self._closes:
                self._stream.close()
        except (OSError, ValueError):
            return


def configure_logging(log_path: Path | None, *, level: str = "INFO") -> None:
    """Send the log to standard error at `level`, and everything from DEBUG on to `log_path`."""
    handlers: list[dict[str, Any]] = [
        {"sink": FoldingSink(sys.stderr), "level": level, "format": TERMINAL_FORMAT, "colorize": False}
    ]
    if log_path is not None:
        log_path.parent.mkdir(parents=True, exist_ok=True)
        # The sink owns the stream and closes it when loguru removes the sink.
        stream = log_path.open("a", encoding="utf-8", errors="replace")
        handlers.append({"sink": FoldingSink(stream, closes=True), "level": "DEBUG", "format": FILE_FORMAT})
    logger.configure(handlers=handlers)  # pyright: ignore[reportArgumentType]  # loguru's stub wants its own TypedDict
