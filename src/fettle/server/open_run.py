"""Runs that are held open: read on where they were left, and judged again only where something changed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fettle.errors import RunError
from fettle.runs.discover import foreign_entries, is_inside
from fettle.runs.log_lines import LogLines
from fettle.server.counters import Counters

if TYPE_CHECKING:
    from fettle.api import Run

MOST_RUNS = 64
MOST_BYTES = 1 << 30
"""Of columns, over all runs that are held; the run used last is always held."""
WAIT_SECONDS = 60.0
"""A long log takes seconds to read the first time; who waits longer is told to come again."""


class BusyError(Exception):
    """The run is still being read."""


class OpenRun:
    """One run with what was worked out from it. Used by one thread at a time."""

    def __init__(self, path: Path, root: Path, counters: Counters) -> None:
        self.path = path
        self.root = root
        self.nbytes = 0
        """Bytes of its columns when it was last read."""
        self._counters = counters
        self._lock = threading.RLock()
        self._run: Run | None = None
        self._checked: int | None = None
        self._derived: dict[str, tuple[Hashable, Any]] = {}
        self._log: LogLines | None = None

    @contextmanager
    def reading(self) -> Generator[Run]:
        """The run as of now, for this thread alone. Raises BusyError, and RunError of a damaged run."""
        if not self._lock.acquire(timeout=WAIT_SECONDS):
            raise BusyError
        try:
            self._refuse_links()
            if self._run is None:
                from fettle.api import open_run

                self._run = open_run(self.path)
            else:
                self._run.refresh()
            self.nbytes = self._run.nbytes
            yield self._run
        finally:
            self._lock.release()

    def derived(self, name: str, key: Hashable, compute: Callable[[], Any]) -> Any:
        """What `compute` gave when the key was last this one; to be called while reading."""
        known = self._derived.get(name)
        if known is not None and known[0] == key:
            self._counters.cached += 1
            return known[1]
        self._counters.parsed += 1
        value = compute()
        self._derived[name] = (key, value)
        return value

    def log(self, path: Path | None) -> LogLines | None:
        """The lines of its log; to be called while reading."""
        if path is None or not is_inside(path, self.root):
            return None
        if self._log is None or self._log.path != path:
            self._log = LogLines(path)
        self._log.refresh()
        return self._log

    def _refuse_links(self) -> None:
        changed = self.path.stat().st_mtime_ns if self.path.exists() else None
        if changed is None:
            raise RunError(f"{self.path.name} is gone")
        if changed == self._checked:
            return
        out = foreign_entries(self.path, self.root, deep=True)
        if out:
            where = out[0].relative_to(self.path)
            raise RunError(f"{self.path.name}: {where} is a link out of the served folder, or no plain file")
        self._checked = changed


class OpenRuns:
    """The runs used last, as many as memory allows."""

    def __init__(self, root: Path, counters: Counters) -> None:
        self._root = root
        self._counters = counters
        self._lock = threading.Lock()
        self._runs: OrderedDict[Path, OpenRun] = OrderedDict()

    def get(self, path: Path) -> OpenRun:
        """The run at a path that was found below the root."""
        with self._lock:
            run = self._runs.get(path)
            if run is None:
                run = self._runs[path] = OpenRun(path, self._root, self._counters)
            self._runs.move_to_end(path)
            while len(self._runs) > 1 and self._too_much():
                self._runs.popitem(last=False)
            return run

    def _too_much(self) -> bool:
        return len(self._runs) > MOST_RUNS or sum(run.nbytes for run in self._runs.values()) > MOST_BYTES
