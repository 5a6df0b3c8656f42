"""What happens to one run, told to all who watch it: read once, encoded once."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool

from fettle.errors import RunError
from fettle.runs.discover import run_stamp
from fettle.runs.numbers import number
from fettle.runs.records import LIVE, STATES
from fettle.server.answer import encode
from fettle.server.cursor import cursor_of, place_after
from fettle.server.live_rows import count_after, live_columns, rows_after
from fettle.server.open_run import BusyError, OpenRun

if TYPE_CHECKING:
    from fettle.api import Run

INTERVAL_SECONDS = 0.1
STATUS_SECONDS = 1.0
KEPT_BATCHES = 100
"""Ten seconds: who is further behind queries again."""
MOST_ROWS = 5_000
MOST_BYTES = 1 << 20
"""Of one batch; a larger one costs more than querying again."""
TERMINAL = STATES - LIVE - {"unknown"}


def sse(event: str, data: Any, id: str | None = None) -> bytes:
    """One server-sent event. JSON holds no line ends, so that it is one line."""
    told = f"id: {id}\n" if id else ""
    return f"{told}event: {event}\ndata: ".encode() + encode(data) + b"\n\n"


class Feed:
    """Follows one run while somebody watches it. Batches are numbered; the oldest are lost to who lags."""

    def __init__(self, run: OpenRun, row: Callable[[], dict[str, Any]]) -> None:
        self.clients = 0
        self.number = 0
        """Of the last batch."""
        self.ended = False
        self._run = run
        self._row = row
        self._batches: deque[tuple[int, bytes]] = deque(maxlen=KEPT_BATCHES)
        self._segment: str | None = None
        self._place = 0
        self._columns: list[str] = []
        self._stamp: Any = None
        self._status_told = float("-inf")
        self._state = "unknown"
        self._over = False
        """Whether nothing more comes: it has ended, and nobody evaluates its checkpoints."""
        self._state_told: Any = None
        self._state_asked = float("-inf")
        self._cursor = ""
        self._evaluated: float | None = None
        """When the newest evaluation came."""
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """One more client; the first one starts the reading."""
        self.clients += 1
        if self._task is None:
            self._task = asyncio.create_task(self._follow())

    def leave(self) -> None:
        """One client less; with the last one the reading ends."""
        self.clients -= 1
        if self.clients == 0 and self._task is not None:
            self._task.cancel()
            self._task = None

    async def begin(self, since: str | None) -> tuple[bytes, int]:
        """What a new client is told first, and the number of the batch it goes on after."""
        return await run_in_threadpool(self._begin, since)

    def after(self, number: int) -> tuple[int, bytes | None]:
        """The last batch's number, and all batches after `number`; None where some are no longer held."""
        new = [(n, batch) for n, batch in list(self._batches) if n > number]
        if not new:
            return number, b""
        return new[-1][0], b"".join(batch for _, batch in new) if new[0][0] == number + 1 else None

    def behind(self) -> bytes:
        """What a client is told that lost batches."""
        return sse("rewind", {"reason": "behind"}, self._cursor)

    async def changed(self, seconds: float) -> bool:
        """Whether a batch came within this time."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)
            return True
        return False

    async def _follow(self) -> None:
        while not self.ended:
            started, number = time.monotonic(), self.number
            await run_in_threadpool(self._poll)
            if self.number != number or self.ended:
                self._changed.set()
                self._changed = asyncio.Event()
            await asyncio.sleep(max(0.0, INTERVAL_SECONDS - (time.monotonic() - started)))
        # Wakes who came between the last batch and the end.
        self._changed.set()

    def _poll(self) -> None:
        try:
            with self._run.reading() as run:
                if not self.ended:
                    self._take(run)
        except BusyError:
            return
        except (RunError, OSError) as error:
            self._add(sse("end", {"state": "gone", "reason": str(error)}))
            self.ended = True

    def _begin(self, since: str | None) -> tuple[bytes, int]:
        with self._run.reading() as run:
            self._take(run)
            told = [sse("status", self._status(run), self._cursor), self._columns_event()]
            place = place_after(since, run)
            if place is not None and count_after(run, place) <= MOST_ROWS:
                rows = rows_after(run, place, self._columns)
                told += [sse("rows", rows, self._cursor)] if rows else []
            elif since is not None:
                told.append(sse("rewind", {"reason": "unknown"}, self._cursor))
            if self._over:
                told.append(sse("end", {"state": self._state}))
                self.ended = True
            return b"".join(told), self.number

    def _take(self, run: Run) -> None:
        """Add a batch of what is new; to be called while reading."""
        before, place, columns, evaluated = self._segment, self._place, live_columns(run), self._evaluated
        self._segment, self._place, self._cursor = run.segment, run.position, cursor_of(run)
        self._look_at_state(run)
        batch = b""
        if columns != self._columns:
            self._columns = columns
            batch += self._columns_event()
        if before is not None and before != run.segment:
            batch += sse("rewind", {"reason": "resumed"}, self._cursor)
        elif before is not None and place < run.position:
            batch += self._rows(run, place)
        if before is not None and evaluated != self._evaluated:
            # As a row: who draws evaluations asks for them.
            told = {"evaluation": [{"timestamp": self._evaluated}]}
            batch += sse("rows", told, self._cursor)
        batch += self._status_if_changed(run)
        if before is not None and self._over:
            batch += sse("end", {"state": self._state})
            self.ended = True
        if batch:
            self._add(batch)

    def _look_at_state(self, run: Run) -> None:
        """Once a second, for it asks the system who holds the run; at once where the log says more."""
        told = (run.segment, *(len(run.records(type)) for type in ("start", "control", "end")))
        now = time.monotonic()
        if told != self._state_told or now - self._state_asked >= STATUS_SECONDS:
            self._state, self._state_told, self._state_asked = run.state(), told, now
            # Asked before its rows are read: the last one stands there before the lock is given up.
            self._over = self._state in TERMINAL and not run.is_evaluated()
            times = (number(row.get("timestamp")) or 0.0 for row in run.evaluations())
            self._evaluated = max(times, default=None)

    def _rows(self, run: Run, place: int) -> bytes:
        if count_after(run, place) > MOST_ROWS:
            return self.behind()
        event = sse("rows", rows_after(run, place, self._columns), self._cursor)
        return event if len(event) <= MOST_BYTES else self.behind()

    def _status_if_changed(self, run: Run) -> bytes:
        now = time.monotonic()
        stamp = (run_stamp(self._run.path), self._state)
        if stamp == self._stamp or (now - self._status_told < STATUS_SECONDS and not self._over):
            return b""
        first, self._stamp, self._status_told = self._stamp is None, stamp, now
        return b"" if first else sse("status", self._status(run), self._cursor)

    def _status(self, run: Run) -> dict[str, Any]:
        return {**self._row(), "state": self._state, "status": run.status()}

    def _columns_event(self) -> bytes:
        return sse("columns", {"train": self._columns})

    def _add(self, batch: bytes) -> None:
        self.number += 1
        self._batches.append((self.number, batch))
