"""What keeps the queue of jobs going while the server runs."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

from fastapi import FastAPI
from loguru import logger

from fettle.errors import RunError
from fettle.jobs.queue import JobQueue
from fettle.server.context import Context

INTERVAL_SECONDS = 1.0
LEAVE_SECONDS = 5.0


@asynccontextmanager
async def job_runner(app: FastAPI) -> AsyncGenerator[None]:
    """Runs the queue where the server may control anything. Trainings go on when it ends."""
    context = cast("Context", app.state.context)
    if not context.settings.control:
        yield
        return
    leaving = threading.Event()
    thread = threading.Thread(target=_run, args=(context.jobs, leaving), name="jobs", daemon=True)
    thread.start()
    try:
        yield
    finally:
        leaving.set()
        thread.join(LEAVE_SECONDS)


def _run(jobs: JobQueue, leaving: threading.Event) -> None:
    told = ""
    while not leaving.wait(INTERVAL_SECONDS):
        try:
            jobs.tick()
        except (RunError, OSError) as error:
            # A full disk, or another server that holds the jobs: said once, and tried again.
            if str(error) != told:
                logger.error("jobs: {}", error)
            told = str(error)
