"""What every route needs: the runs, and the one that a request names."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, cast

from fastapi import Depends, HTTPException, Path, Request

from fettle.jobs.queue import JobQueue
from fettle.jobs.store import JobStore
from fettle.server.counters import Counters
from fettle.server.listing import ListedRun, RunListing
from fettle.server.open_run import OpenRun, OpenRuns
from fettle.server.packs import Packs
from fettle.server.settings import Settings
from fettle.server.shapes import Problem

if TYPE_CHECKING:
    from fettle.api import Run


USED_BY_ROUTES = (
    "fettle.api",
    "fettle.config",
    "fettle.decide.alerts",
    "fettle.decide.compare",
    "fettle.metrics.layers",
    "fettle.runs.column_names",
    "fettle.runs.reader",
    "fettle.server.judging",
    "fettle.server.report",
    "fettle.server.sample_tables",
    "fettle.server.series",
)
_loading, _loaded = threading.Lock(), threading.Event()


@dataclass(slots=True)
class Context:
    """One server's state. All of it can be built again from the folder."""

    settings: Settings
    listing: RunListing
    runs: OpenRuns
    packs: Packs
    counters: Counters
    jobs: JobQueue
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, settings: Settings) -> Context:
        """That of a server which was just started."""
        counters = Counters()
        listing = RunListing(settings.root, counters)
        jobs = JobQueue(JobStore(settings.root))
        return cls(settings, listing, OpenRuns(listing.root, counters), Packs(listing), counters, jobs)


@dataclass(slots=True)
class Named:
    """The run that a request names."""

    listed: ListedRun
    open: OpenRun

    @contextmanager
    def reading(self) -> Generator[Run]:
        """The run as of now."""
        with self.open.reading() as run:
            yield run


def load_rooms() -> None:
    """Have what routes import when they are asked; the server itself starts sooner without.

    Requests run in threads, and threads that import the same rooms from different ends lock each other out.
    """
    if _loaded.is_set():
        return
    with _loading:
        for room in USED_BY_ROUTES:
            import_module(room)
        _loaded.set()


def state(request: Request) -> Context:
    """The server's state, for a route that imports nothing."""
    return cast("Context", request.app.state.context)


def context(request: Request) -> Context:
    """The server's state."""
    load_rooms()
    return state(request)


Server = Annotated[Context, Depends(context)]


def no_such_run() -> HTTPException:
    """What is told of an id that is of no run."""
    return HTTPException(404, "there is no such run; GET /api/runs lists them")


def listed_run(server: Context, id: str) -> ListedRun:
    """The run of an id. Raises HTTPException (404) where there is none."""
    listed = server.listing.find(id)
    if listed is None:
        raise no_such_run()
    return listed


def named(server: Server, id: Annotated[str, Path(description="Id of a run")]) -> Named:
    """The run of the address."""
    listed = listed_run(server, id)
    return Named(listed, server.runs.get(listed.path))


NamedRun = Annotated[Named, Depends(named)]

CHANGES: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The body is no text."},
    403: {"model": Problem, "description": "The server was started without --control."},
    413: {"model": Problem, "description": "The body is too long, or does not say how long it is."},
    415: {"model": Problem, "description": "The body is no JSON."},
}
"""How a request is refused that changes something."""


def require_control(server: Context) -> None:
    """Raises HTTPException (403) where nobody may change anything from here."""
    if not server.settings.control:
        raise HTTPException(403, "control is off; start the server with --control")
