"""The event log of a run: append-only JSON lines that survive a crash and a full disk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from math import isfinite
from os import write
from pathlib import Path
from time import time
from typing import Any, cast

import orjson
from orjson import dumps

FSYNC_INTERVAL_SECONDS = 1.0
LINE = orjson.OPT_APPEND_NEWLINE
# Records kept in memory while the disk is full; older ones are dropped and counted.
BACKLOG_RECORDS = 10_000


class EventLog:
    """Appends records to one file, each with a single `write`, so that a kill loses none that returned.

    `append` never raises for what the disk does: a record that cannot be written
    waits and is tried again with the next one; `dropped` counts those given up.
    A torn last line, ours or of a crashed writer, is closed before the next record.
    One thread writes: the log has no lock, which would cost as much as encoding.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._torn = _ends_torn(path)
        self._waiting: list[bytes] = []
        self._dropped = 0
        self._synced = time()

    @property
    def dropped(self) -> int:
        """Records that are not in the file: given up, or still waiting for the disk."""
        return self._dropped + len(self._waiting)

    def append(self, type: str, fields: Mapping[str, Any]) -> None:
        """Write one record of this type; `timestamp` (Unix seconds) is added.

        A non-finite number is written as null beside `<key>_nonfinite`, which
        says "nan", "inf" or "-inf". Array scalars are converted.
        """
        now = time()
        record = {"type": type, "timestamp": now, **fields}
        try:
            line = dumps(record, _plain, LINE)
        except (orjson.JSONEncodeError, TypeError):
            line = _encoded(record)
        # orjson writes NaN as null: without one, every number is finite.
        if line.find(b":null") >= 0:
            line = _encoded(record)
        if self._waiting or not self._write(line):
            self._delay(line)
        # By the wall clock already read for the record: a jump moves one sync, no more.
        if not 0 <= now - self._synced < FSYNC_INTERVAL_SECONDS:
            self._synced = now
            self._sync()

    def close(self) -> None:
        """Write what waits, sync, close. Later records are counted as dropped."""
        if self._file < 0:
            return
        self._retry()
        self._dropped += len(self._waiting)
        self._waiting.clear()
        self._sync()
        os.close(self._file)
        self._file = -1

    def _write(self, line: bytes) -> bool:
        """Whether the whole line stands in the file."""
        if self._torn:
            line = b"\n" + line
        try:
            written = write(self._file, line)  # a closed log's -1 is refused as well
        except OSError:
            return False
        if written == len(line):
            self._torn = False
            return True
        self._torn = self._torn or written > 0
        return False

    def _retry(self) -> None:
        while self._waiting and self._write(self._waiting[0]):
            self._waiting.pop(0)

    def _delay(self, line: bytes) -> None:
        """What the disk refused waits, in order; what cannot wait is counted."""
        if self._file < 0:
            self._dropped += 1
            return
        self._retry()
        if not self._waiting and self._write(line):
            return
        if len(self._waiting) < BACKLOG_RECORDS:
            self._waiting.append(line)
        else:
            self._dropped += 1

    def _sync(self) -> None:
        try:
            os.fsync(self._file)
        except OSError:
            return  # A full or vanished disk shows in `dropped`.


def _encoded(record: dict[str, Any]) -> bytes:
    """One line of JSON; what JSON cannot hold is made explicit."""
    try:
        flags = _nonfinite(record)
        return dumps({**record, **flags} if flags else record, _plain, LINE)
    except (orjson.JSONEncodeError, TypeError):  # rare: keys that are no text, integers beyond 64 bits
        return dumps(_sanitised({**record, **_nonfinite(record)}), option=LINE)


def _nonfinite(record: dict[str, Any]) -> dict[str, str]:
    """`<key>_nonfinite` for every value that is NaN or infinite."""
    plain = {key: _plain(v) if hasattr(v, "item") else v for key, v in record.items()}
    return {
        f"{key}_nonfinite": str(v) for key, v in plain.items() if isinstance(v, float) and not isfinite(v)
    }


def _plain(value: Any) -> Any:
    """Numbers of numpy and torch as Python's, everything unknown as its text."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def _sanitised(value: Any) -> Any:
    """For what orjson refuses: keys that are no text, integers beyond 64 bits, broken surrogates."""
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value).items()
        return {_text(str(key)): _sanitised(item) for key, item in items}
    if isinstance(value, (list, tuple)):
        return [_sanitised(item) for item in cast("list[Any]", value)]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        # Beyond 64 bits a float is near enough; beyond a float, the digits.
        return value if -(2**63) <= value < 2**64 else float(value) if abs(value) < 2**1023 else str(value)
    if isinstance(value, float):
        return float(value) if isfinite(value) else None
    plain = _plain(value)
    return _text(plain) if isinstance(plain, str) else _sanitised(plain)


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode("utf-8")


def _ends_torn(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            if stream.tell() == 0:
                return False
            stream.seek(-1, os.SEEK_END)
            return stream.read(1) != b"\n"
    except OSError:
        return False
