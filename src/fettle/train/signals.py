"""Ctrl-C and SIGTERM: the first asks for a checkpoint and an orderly end, the second aborts."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from loguru import logger


class StopRequest:
    """Whether somebody asked the run to stop, and who."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._signalled = False

    def ask(self, reason: str) -> None:
        """Stop after the step that is being done."""
        self.reason = self.reason or reason

    @property
    def requested(self) -> bool:
        return self.reason is not None

    @contextmanager
    def listening(self) -> Generator[StopRequest]:
        """Handle SIGINT and SIGTERM inside the block; other threads cannot and do not."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        signals = (signal.SIGINT, signal.SIGTERM)
        previous = [signal.signal(number, self._handle) for number in signals]
        try:
            yield self
        finally:
            for number, handler in zip(signals, previous, strict=True):
                signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._signalled:
            raise KeyboardInterrupt
        self._signalled = True
        self.reason = signal.Signals(number).name
        logger.warning("{}: saving a checkpoint, then stopping. Once more aborts at once.", self.reason)
