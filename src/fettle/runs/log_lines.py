"""A text log as a person wants to read it: bars and repetitions folded, nothing that moves a cursor."""

from __future__ import annotations

import os
import re
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

Level = Literal["debug", "info", "success", "warning", "error", "critical"]
LEVELS: tuple[Level, ...] = ("debug", "info", "success", "warning", "error", "critical")

READ_BYTES = 1 << 20
LONGEST_LINE = 8_192
"""Characters of a line that are kept."""
HELD_BYTES = 4 * LONGEST_LINE
MOST_LINES = 200_000
"""Folded lines held of a log; of a longer one the oldest are forgotten, and still counted."""

ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor movements
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC, DCS, SOS, PM, APC: titles, links, device strings
    r"|\x1b[ -/]*[0-~]?"  # Everything shorter
)
# Control characters, and those that turn the direction of text around.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# The layout that `fettle.runs.logs` writes.
PREFIX = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) (\w+) +(.*)", re.DOTALL)
ABOVE = re.compile(r"  \(the line above ×(\d+)\)$")
# tqdm and what looks like it: `train:  12%|█▏        | 12/100 [00:01<00:09,  9.1it/s]`.
BAR = re.compile(r"^(.{0,200}?)\s*\d{1,3}(?:\.\d+)?\s?%\s?[|\[]")


@dataclass(slots=True)
class LogLine:
    """One line, or a bar or repetition that many lines folded into."""

    text: str
    time: str | None = None
    """As written, in the local time of the machine that trained."""
    level: Level | None = None
    """None where no line up to here named one; a line without its own has that of the line before."""
    repeated: int = 1


class LogLines:
    """The folded lines of a growing text file. `refresh` reads what was appended since."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.forgotten = 0
        """Lines from the beginning that are no longer held."""
        self._lines: deque[LogLine] = deque()
        self._inode: int | None = None
        self._offset = 0
        self._rest = b""
        self._cut = 0
        """Bytes of the line that is being written that are not held."""

    def __len__(self) -> int:
        return self.forgotten + len(self._lines)

    def refresh(self) -> None:
        """Take in what is new; a file that was replaced or truncated is read from its start again."""
        try:
            with self.path.open("rb") as stream:
                self._notice_replacement(os.fstat(stream.fileno()))
                stream.seek(self._offset)
                while block := stream.read(READ_BYTES):
                    self._offset += len(block)
                    self._take(block)
        except OSError:
            return

    def select(
        self, limit: int, offset: int, level: Level | None = None, query: str = ""
    ) -> tuple[int, int, list[LogLine]]:
        """Number of lines that match, the place of the first one given, and up to `limit` of them.

        A negative offset counts from the end. `level` is the least one; lines without any pass.
        """
        found = [*self._lines, *self._unfinished()]
        first = self.forgotten
        if level is not None or query:
            least, text = LEVELS.index(level or "debug"), query.casefold()
            found = [
                line
                for line in found
                if (line.level is None or LEVELS.index(line.level) >= least) and text in line.text.casefold()
            ]
            first = 0
        total = first + len(found)
        start = max(first, min(total, offset + total if offset < 0 else offset))
        return total, start, found[start - first : start - first + limit]

    def _unfinished(self) -> list[LogLine]:
        """The line that is being written, as it stands: a bar that still moves."""
        line = _parsed(self._rest, self._cut) if self._rest else None
        return [] if line is None or not line.text else [line]

    def _take(self, block: bytes) -> None:
        *ended, rest = (self._rest + block).split(b"\n")
        for line in ended:
            self._add(_parsed(line, self._cut))
            self._cut = 0
        # What a carriage return wrote over is gone: a bar that moves for hours needs no memory.
        drawn = _last_drawn(rest)
        self._cut = 0 if len(drawn) < len(rest) else self._cut
        self._rest = drawn[:HELD_BYTES]
        self._cut += len(drawn) - len(self._rest)

    def _add(self, line: LogLine) -> None:
        last = self._lines[-1] if self._lines else None
        above = ABOVE.fullmatch(line.text)
        if above and last is not None:
            last.repeated = max(last.repeated, _count(above[1]))
            return
        if last is not None:
            if line.time is None:
                line.level = last.level
            if line.text == last.text and line.level == last.level:
                last.repeated += 1
                return
            if _same_bar(last.text, line.text):
                line.repeated = 1
                self._lines[-1] = line
                return
        self._lines.append(line)
        if len(self._lines) > MOST_LINES:
            self._lines.popleft()
            self.forgotten += 1

    def _notice_replacement(self, status: os.stat_result) -> None:
        if self._inode is not None and (status.st_ino != self._inode or status.st_size < self._offset):
            self._offset, self._rest, self._cut, self.forgotten = 0, b"", 0, 0
            self._lines.clear()
        self._inode = status.st_ino


def printable(text: str) -> str:
    """Text without terminal escapes, control characters and marks that turn its direction."""
    return CONTROLS.sub("", ESCAPES.sub("", text))


def _parsed(line: bytes, cut: int = 0) -> LogLine:
    """A line as it is shown; `cut` bytes of it were not held."""
    drawn = _last_drawn(line)
    text = printable(drawn[:HELD_BYTES].decode("utf-8", "replace")).rstrip()
    if cut or len(drawn) > HELD_BYTES or len(text) > LONGEST_LINE:
        text = f"{text[:LONGEST_LINE]} … ({len(drawn) + cut} bytes)"
    match = PREFIX.match(text)
    if match is None or match[2].lower() not in LEVELS:
        return LogLine(text)
    return LogLine(match[3], match[1], cast("Level", match[2].lower()))


def _last_drawn(line: bytes) -> bytes:
    """What a terminal would show of a line with carriage returns: what was written last."""
    if b"\r" not in line:
        return line
    return line[line.rfind(b"\r", 0, len(line.rstrip(b"\r "))) + 1 :]


def _same_bar(before: str, now: str) -> bool:
    first, second = BAR.match(before), BAR.match(now)
    return first is not None and second is not None and first[1].strip() == second[1].strip()


def _count(digits: str) -> int:
    return int(digits[:15])
