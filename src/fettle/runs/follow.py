"""Reading a growing event log by byte offset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fettle.runs.json_object import parse_object

READ_BYTES = 1 << 22
# No record of a training log is this long; a file without line ends must not fill the memory.
LONGEST_LINE_BYTES = 1 << 26


class LogFollower:
    """Yields complete records as they are appended; nothing is read twice.

    A torn last line waits for its end; one that lacks nothing but the line end
    counts. A file that was replaced or truncated is read from its start again,
    and `generation` grows. Lines that are no JSON object are counted in
    `skipped`, as are lines beyond 64 MiB.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        self.skipped = 0
        self._inode: int | None = None
        self._offset = 0
        self._rest = b""
        self._overlong = False

    @property
    def torn(self) -> bool:
        """Whether the file ends within a line: one that is being written, or was cut off."""
        return bool(self._rest.strip()) or self._overlong

    def poll(self) -> list[dict[str, Any]]:
        """Records that are complete by now and were not returned before; [] while there is no file."""
        try:
            with self.path.open("rb") as stream:
                self._notice_replacement(stream)
                records: list[dict[str, Any]] = []
                stream.seek(self._offset)
                while block := stream.read(READ_BYTES):
                    self._offset += len(block)
                    records += [r for line in self._lines(block) if (r := self._parse(line)) is not None]
                return [*records, *self._unended()]
        except FileNotFoundError:
            return []

    def _lines(self, block: bytes) -> list[bytes]:
        """Lines that end in this block; what begins in it waits, unless it grows beyond all measure."""
        first, *more = block.split(b"\n")
        if self._overlong and not more:
            return []
        begun = [] if self._overlong else [self._rest + first]
        *lines, self._rest = [*begun, *more]
        self._overlong = len(self._rest) > LONGEST_LINE_BYTES
        if self._overlong:
            self.skipped += 1
            self._rest = b""
        return lines

    def _unended(self) -> list[dict[str, Any]]:
        """The last line, where it is a whole object already: no longer line can begin with one."""
        record = parse_object(self._rest) if self._rest.rstrip().endswith(b"}") else None
        if record is None:
            return []
        self._rest = b""
        return [record]

    def _notice_replacement(self, stream: Any) -> None:
        status = os.fstat(stream.fileno())
        if self._inode is not None and (status.st_ino != self._inode or status.st_size < self._offset):
            self.generation += 1
            self._offset, self._rest, self._overlong = 0, b"", False
        self._inode = status.st_ino

    def _parse(self, line: bytes) -> dict[str, Any] | None:
        if not line.strip():
            return None
        record = parse_object(line)
        self.skipped += record is None
        return record
