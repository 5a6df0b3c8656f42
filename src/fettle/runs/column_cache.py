"""The columns of a long log, kept in the user's cache: a log is parsed once, not at every opening.

A file of the cache can be deleted at any time, and is not believed: it counts only where it is whole and
where the log still begins with the very bytes it was made from. Its columns are mapped: those that are used
take memory, which the system can have back.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
import xxhash
from numpy.typing import NDArray

import fettle
from fettle.runs.cache_folder import cache_folder
from fettle.runs.follow import READ_BYTES, Place
from fettle.runs.table import EventTable

FORMAT = b"fettle columns 1\n"
SMALLEST_LOG = 8 << 20
"""Bytes of a log that are parsed before anybody notices."""
GROWN = 4
"""A log that grew by one part in so many is saved again."""
MOST_REST = 1 << 20
MOST_BYTES = 4 << 30
"""Of all files of the cache; those used least recently go first."""
SUFFIX = ".columns"


class ColumnCache:
    """The kept columns of one log. Reading and writing fail silently: the log itself is always there."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._saved = 0
        """Bytes of the log whose columns are kept."""

    @property
    def path(self) -> Path:
        """The file that is its own, whichever way the log is named."""
        real = os.fsencode(os.path.realpath(self._log))
        return cache_folder() / f"{xxhash.xxh3_128_hexdigest(real)}{SUFFIX}"

    def load(self) -> tuple[Place, EventTable] | None:
        """How far the log is known, and what it holds up to there; None where nothing usable is kept."""
        try:
            if self._log.stat().st_size < SMALLEST_LOG:
                return None
            told, arrays = _read(self.path)
            place = self._place(told)
            if place is None:
                return None
            table = EventTable.of_parts(told["table"], _taker(arrays))
            os.utime(self.path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # Gone, torn, of another version, or no file of ours.
        self._saved = place.offset
        return place, table

    def save(self, place: Place | None, table: EventTable) -> EventTable:
        """Keep what is known of the log, where that is worth the while; what is kept comes back mapped."""
        if place is None or len(place.rest) > MOST_REST:
            return table
        if place.offset - self._saved < max(SMALLEST_LOG, self._saved // GROWN):
            return table
        self._saved = place.offset  # Where it cannot be saved now, it is not tried at every row.
        with suppress(OSError, orjson.JSONEncodeError):
            with self._log.open("rb") as stream:
                status = os.fstat(stream.fileno())
                if status.st_ino != place.inode or status.st_size < place.offset:
                    return table
                digest = _digest(stream, place.offset)
            parts, arrays = table.parts()
            told = {
                "fettle": fettle.__version__,
                "stamp": _stamp(status) if status.st_size == place.offset else None,
                "digest": digest,
                "offset": place.offset,
                "rest": b64encode(place.rest).decode(),
                "head": b64encode(place.head).decode(),
                "skipped": place.skipped,
                "table": parts,
            }
            _write(self.path, told, arrays)
            _forget_oldest(self.path)
        # Another process may have kept more, or less, in the meantime.
        known = self.load()
        return known[1] if known is not None and known[0] == place else table

    def _place(self, told: dict[str, Any]) -> Place | None:
        """Where to go on, if the log still begins with what was read of it."""
        with self._log.open("rb") as stream:
            status = os.fstat(stream.fileno())
            if told["fettle"] != fettle.__version__ or status.st_size < told["offset"]:
                return None
            # An untouched file is the same file; of any other the bytes are compared.
            same = told["stamp"] == _stamp(status) or told["digest"] == _digest(stream, told["offset"])
        if not same:
            return None
        rest, head = b64decode(told["rest"]), b64decode(told["head"])
        return Place(status.st_ino, told["offset"], rest, head, told["skipped"])


def _stamp(status: os.stat_result) -> list[int]:
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _digest(stream: BinaryIO, size: int) -> str:
    """Of the first `size` bytes."""
    digest, left = xxhash.xxh3_128(), size
    while left and (block := stream.read(min(READ_BYTES, left))):
        digest.update(block)
        left -= len(block)
    return digest.hexdigest()


def _write(path: Path, told: dict[str, Any], arrays: list[NDArray[np.float64]]) -> None:
    """Aside and renamed: two writers leave the file of one, a full disk none."""
    plain = orjson.dumps(told)
    if orjson.loads(plain) != told:
        return  # A number that JSON does not give back as it was, such as an infinity within a list.
    header = plain + b" " * (-len(plain) % 8)
    digest = xxhash.xxh3_64(header)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, aside = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(FORMAT + bytes(-len(FORMAT) % 8))
            stream.write(len(header).to_bytes(8, "little"))
            stream.write(header)
            for array in arrays:
                values = np.ascontiguousarray(array, dtype="<f8").data.cast("B")
                digest.update(values)
                stream.write(values)
            stream.write(digest.intdigest().to_bytes(8, "little"))
        Path(aside).replace(path)
    except OSError:
        Path(aside).unlink(missing_ok=True)
        raise


def _read(path: Path) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """What was told and all numbers, one after the other. Raises ValueError where the file is not whole."""
    with path.open("rb") as stream:
        # Private: rows that a resume drops are struck out in memory, not in the file.
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    content = np.frombuffer(mapped, dtype=np.uint8)
    start = -(-len(FORMAT) // 8) * 8
    if content.size < start + 16 or content[: len(FORMAT)].tobytes() != FORMAT:
        raise ValueError("no file of the cache")
    size = int.from_bytes(content[start : start + 8].tobytes(), "little")
    body = content[start + 8 : -8]
    if size > body.size or (body.size - size) % 8:
        raise ValueError("torn")
    if xxhash.xxh3_64_intdigest(body.data) != int.from_bytes(content[-8:].tobytes(), "little"):
        raise ValueError("damaged")
    mapped.madvise(mmap.MADV_DONTNEED)
    return orjson.loads(body[:size].tobytes()), body[size:].view("<f8")


def _taker(arrays: NDArray[np.float64]) -> Callable[[int], NDArray[np.float64]]:
    """Gives so many of the numbers at a time."""
    place = 0

    def take(size: int) -> NDArray[np.float64]:
        nonlocal place
        found = arrays[place : place + size]
        place += size
        if found.size != size:
            raise ValueError("numbers are missing")
        return found

    return take


def _forget_oldest(kept: Path) -> None:
    """Delete files that were not used for longest until the rest is small enough."""
    found = [(path.stat(), path) for path in kept.parent.glob(f"*{SUFFIX}")]
    total = 0
    for status, path in sorted(found, key=lambda pair: -pair[0].st_mtime_ns):
        total += status.st_size
        if total > MOST_BYTES and path != kept:
            path.unlink(missing_ok=True)
