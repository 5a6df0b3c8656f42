"""Reading a growing event log by byte offset."""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, BinaryIO

import xxhash

from fettle.runs.json_object import parse_object

# Read and parsed at a time: records that still lie in the processor's cache are taken apart faster.
READ_BYTES = 1 << 18
# No record of a training log is this long; a file without line ends must not fill the memory.
LONGEST_LINE_BYTES = 1 << 26
HEAD_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Place:
    """How far a log was read, so that another follower can go on from there."""

    inode: int
    offset: int
    rest: bytes
    """What was read of the line that has not ended."""
    head: bytes
    skipped: int


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
        self._head = b""

    @property
    def segment(self) -> str:
        """Names what was read so far: another one once the file was replaced, also in another process.

        A log begins with the time it was begun at, so that its first line tells it from others.
        """
        return f"{xxhash.xxh3_64_hexdigest(self._head)[:12]}.{self.generation}"

    @property
    def torn(self) -> bool:
        """Whether the file ends within a line: one that is being written, or was cut off."""
        return bool(self._rest.strip()) or self._overlong

    @property
    def place(self) -> Place | None:
        """How far it was read; None where nothing was, where it was replaced, or within an overlong line."""
        if self._inode is None or self._overlong or self.generation:
            return None
        return Place(self._inode, self._offset, self._rest, self._head, self.skipped)

    def go_on(self, place: Place) -> None:
        """Read on from a place in the same file, instead of from its start."""
        self._inode, self._offset, self._rest = place.inode, place.offset, place.rest
        self._head, self.skipped = place.head, place.skipped

    def poll(self, most_bytes: float = inf) -> list[dict[str, Any]]:
        """Records that are complete by now and were not returned before; [] while there is no file.

        With `most_bytes` it may return fewer of a long file: [] says that all were given.
        """
        try:
            with self.path.open("rb") as stream:
                self._notice_replacement(stream)
                records: list[dict[str, Any]] = []
                stop = self._offset + most_bytes
                stream.seek(self._offset)
                # A long line comes in ever larger pieces: each of them is joined to all before it.
                while block := stream.read(max(READ_BYTES, len(self._rest))):
                    self._offset += len(block)
                    records += [r for line in self._lines(block) if (r := self._parse(line)) is not None]
                    if records and self._offset >= stop:
                        return records
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

    def _notice_replacement(self, stream: BinaryIO) -> None:
        status = os.fstat(stream.fileno())
        if self._inode is not None and (status.st_ino != self._inode or status.st_size < self._offset):
            self.generation += 1
            self._offset, self._rest, self._overlong, self._head = 0, b"", False, b""
        self._inode = status.st_ino
        if not self._head and status.st_size:
            begun = stream.read(HEAD_BYTES)
            end = begun.find(b"\n")
            self._head = begun[:end] if end >= 0 else begun if len(begun) == HEAD_BYTES else b""

    def _parse(self, line: bytes) -> dict[str, Any] | None:
        record = parse_object(line)
        if record is None and line.strip():
            self.skipped += 1
        return record
