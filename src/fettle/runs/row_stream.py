"""A stream of rows beside the event log: what was predicted, what was evaluated; one writer a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fettle.runs.events import EventLog
from fettle.runs.follow import LogFollower
from fettle.runs.table import EventTable


class RowLog:
    """Appends rows of one type to a file that is made with the first of them."""

    def __init__(self, path: Path, type: str) -> None:
        self._path = path
        self._type = type
        self._log: EventLog | None = None

    @property
    def dropped(self) -> int:
        """Rows that the disk did not take."""
        return self._log.dropped if self._log else 0

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows. Raises OSError where no file can be made."""
        log = self._opened()
        for row in rows:
            log.append(self._type, row)

    def resume(self, step: int) -> None:
        """Rows after `step` are superseded from here on."""
        if self._path.exists():
            self._opened().append("resume", {"step": step})

    def close(self) -> None:
        """Write what waits, and close."""
        if self._log is not None:
            self._log.close()

    def _opened(self) -> EventLog:
        if self._log is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._log = EventLog(self._path)
        return self._log


class RowReader:
    """The rows of one type that count; each call takes in what is new, and nothing is read twice."""

    def __init__(self, path: Path, type: str) -> None:
        self._follower = LogFollower(path)
        self._type = type
        self._table = EventTable()
        self._generation = 0

    def rows(self) -> list[dict[str, Any]]:
        """In the order they were written; [] where there is no file."""
        records = self._follower.poll()
        if self._follower.generation != self._generation:
            self._generation = self._follower.generation
            self._table = EventTable()
        for record in records:
            self._table.add(record)
        return self._table.records(self._type)
