"""Reading a growing event log by byte offset."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import orjson

READ_BYTES = 1 << 22


class LogFollower:
    """Yields complete records as they are appended; nothing is read twice.

    A torn last line waits for its end. A file that was replaced or truncated is
    read from its start again, and `generation` grows. Lines that are no JSON
    object are counted in `skipped`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        self.skipped = 0
        self._inode: int | None = None
        self._offset = 0
        self._rest = b""

    def poll(self) -> list[dict[str, Any]]:
        """Records that are complete by now and were not returned before; [] while there is no file."""
        try:
            with self.path.open("rb") as stream:
                self._notice_replacement(stream)
                records: list[dict[str, Any]] = []
                stream.seek(self._offset)
                while block := stream.read(READ_BYTES):
                    self._offset += len(block)
                    *lines, self._rest = (self._rest + block).split(b"\n")
                    records += [record for line in lines if (record := self._parse(line)) is not None]
                return records
        except FileNotFoundError:
            return []

    def _notice_replacement(self, stream: Any) -> None:
        import os

        status = os.fstat(stream.fileno())
        if self._inode is not None and (status.st_ino != self._inode or status.st_size < self._offset):
            self.generation += 1
            self._offset, self._rest = 0, b""
        self._inode = status.st_ino

    def _parse(self, line: bytes) -> dict[str, Any] | None:
        if not line.strip():
            return None
        try:
            record: Any = orjson.loads(line)
        except orjson.JSONDecodeError:
            self.skipped += 1
            return None
        if not isinstance(record, dict):
            self.skipped += 1
            return None
        return cast("dict[str, Any]", record)
