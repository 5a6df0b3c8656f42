"""The runs below the served folder: found, named and summarised, with nothing read twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xxhash

from fettle.runs.discover import RunFinder, foreign_entries, run_stamp
from fettle.runs.records import LIVE
from fettle.runs.summary import RunSummary, is_running, summarise_run
from fettle.server.answer import text
from fettle.server.counters import Counters

FRESH_SECONDS = 0.5
"""A list younger than this is given again: many pages ask at once."""
READING_SECONDS = 0.25
"""Spent on reading logs for one list; runs it did not get to are told as unread, and read for the next."""
SEPARATOR = "~"

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class ListedRun:
    """One run and its line in the list."""

    id: str
    path: Path
    summary: RunSummary

    def row(self) -> dict[str, Any]:
        """Plain values."""
        return {"id": self.id, **self.summary.to_json(), "name": text(self.summary.name)}


class RunListing:
    """The runs of a folder by their ids. Ids are looked up here and nowhere made into paths."""

    def __init__(self, root: Path, counters: Counters, clock: Callable[[], float] = time.monotonic) -> None:
        self._finder = RunFinder(root)
        self._counters = counters
        self._clock = clock
        self._lock = threading.Lock()
        self._runs: dict[str, ListedRun] = {}
        self._stamps: dict[str, Stamp] = {}
        self._looked = float("-inf")

    @property
    def root(self) -> Path:
        """The served folder, free of links."""
        return self._finder.root

    def runs(self) -> list[ListedRun]:
        """All runs, by path."""
        with self._lock:
            if self._clock() - self._looked > FRESH_SECONDS:
                self._look()
                self._looked = self._clock()
            return list(self._runs.values())

    def packs(self) -> dict[str, Path]:
        """The lens packs of the folder by their ids."""
        self.runs()
        with self._lock:
            return {self._id(path): path for path in self._finder.packs()}

    def find(self, id: str) -> ListedRun | None:
        """The run of this id; None where there is none."""
        if id not in self._runs or not self._runs[id].path.is_dir():
            with self._lock:
                self._look()
        return self._runs.get(id)

    def fresh(self, listed: ListedRun) -> ListedRun:
        """The same run with its line as of now."""
        with self._lock:
            self._runs[listed.id] = run = self._summarised(listed.id, listed.path, float("inf"))
            return run

    def _look(self) -> None:
        until = self._clock() + READING_SECONDS
        found = {self._id(path): path for path in self._finder.find()}
        for gone in self._runs.keys() - found.keys():
            self._stamps.pop(gone, None)
        self._runs = {id: self._summarised(id, path, until) for id, path in found.items()}

    def _id(self, path: Path) -> str:
        parts = path.relative_to(self.root).parts or (self.root.name or "root",)
        id = SEPARATOR.join(parts)
        if any(SEPARATOR in part for part in parts) or text(id) != id:
            # Two folders may come out alike here; the hash tells them apart.
            id = (
                f"{text(id)}{SEPARATOR}{xxhash.xxh32_hexdigest(str(path).encode('utf-8', 'surrogateescape'))}"
            )
        return id

    def _summarised(self, id: str, path: Path, until: float) -> ListedRun:
        """The line of a run, read again only where its files changed."""
        before, stamp = self._runs.get(id), run_stamp(path)
        if before is not None and self._stamps.get(id) == stamp:
            self._counters.cached += 1
            if before.summary.state in LIVE and not is_running(path):
                return ListedRun(id, path, replace(before.summary, state="crashed", eta_seconds=None))
            return before
        if foreign_entries(path, self.root):
            self._stamps[id] = stamp
            reason = "it holds a link out of the served folder, or what is no plain file"
            return ListedRun(id, path, RunSummary(path.name, "unknown", "unknown", problem=reason))
        if self._clock() > until:
            return before or ListedRun(
                id, path, RunSummary(path.name, "unknown", "unknown", problem="not read yet")
            )
        self._counters.parsed += 1
        self._stamps[id] = stamp
        return ListedRun(id, path, summarise_run(path))
