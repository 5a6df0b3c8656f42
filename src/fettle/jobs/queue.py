"""The queue of jobs: first come, first served, one at a time on a device."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from fettle.errors import RunError
from fettle.jobs.failure import failure
from fettle.jobs.job import Job
from fettle.jobs.process import end_process, is_alive, process_start, start_training
from fettle.jobs.store import JobStore
from fettle.runs import RunFolder
from fettle.runs.folder import read_json
from fettle.runs.fresh_name import fresh_run_name
from fettle.runs.records import LIVE
from fettle.runs.summary import RunSummary, summarise_run

if TYPE_CHECKING:
    from fettle.config import Config

MOST_WAITING = 1000
INTERRUPTED = 75
"""Exit code of a training that was stopped and can go on (EX_TEMPFAIL)."""


class JobQueue:
    """Starts jobs, sees how they stand, ends them. All it knows is in the files of the store."""

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def submit(self, config: Config, device: int | None = None) -> Job:
        """A new job at the end of the queue. Raises RunError where there can be none."""
        from fettle.config import dump_config

        if RunFolder.is_run(self.store.root):
            raise RunError("the served folder is a run itself: serve the folder above it to launch others")
        with self._locked():
            known = {job.id for job in self.store.all()}
            if sum(job.state == "queued" for job in self.store.all()) >= MOST_WAITING:
                raise RunError(f"{MOST_WAITING} jobs are waiting already")
            name = fresh_run_name(config, lambda name: name in known or (self.store.root / name).exists())
            job = Job(name, "queued", time.time(), device)
            self.store.write_config(job, dump_config(config))
            self.store.write(job)
            return job

    def cancel(self, id: str) -> Job | None:
        """Take a job out of the queue, or have it save and end; asked again, kill it. None: no such job."""
        with self._locked():
            job = self._seen(id)
            if job is None or job.ended:
                return job
            if job.state == "queued":
                return self._write(replace(job, state="cancelled", ended_at=time.time()))
            if job.pid is not None and self._lives(job):
                end_process(job.pid, at_once=job.cancelled_at is not None)
            return self._write(replace(job, cancelled_at=job.cancelled_at or time.time()))

    def restart(self, id: str) -> Job | None:
        """Queue a job again that was cancelled or failed: it goes on from its newest checkpoint."""
        with self._locked():
            job = self._seen(id)
            if job is None or job.state not in ("cancelled", "failed"):
                return job
            return self._write(Job(job.id, "queued", time.time(), job.device))

    def tick(self) -> None:
        """See how jobs stand, and start those whose device is free."""
        if not any(not job.ended for job in self.store.all()):
            return
        with self._locked():
            jobs = [self._write(self.look(job), job) for job in self.store.all()]
            busy = [job for job in jobs if not job.ended and job.state != "queued"]
            for job in jobs:
                if job.ended:
                    self._children.pop(job.id, None)
                if job.state == "queued":
                    if not any(job.conflicts(other) for other in busy):
                        job = self._start(job)
                    # One that waits for its device goes before those that came later.
                    busy.append(job)

    def look(self, job: Job) -> Job:
        """The job as it stands now; nothing is written."""
        if job.ended or job.state == "queued":
            return job
        if not self._lives(job):
            child = self._children.get(job.id)
            code = None if child is None else child.returncode
            return self._ended(replace(job, ended_at=time.time(), exit_code=code))
        summary = self._summary_since_start(job)
        if summary is not None and summary.state in LIVE:
            return replace(job, state=summary.state)
        return job

    def _lives(self, job: Job) -> bool:
        child = self._children.get(job.id)
        return is_alive(job.pid, job.process_start) if child is None else child.poll() is None

    def summary(self, job: Job) -> RunSummary | None:
        """Its run in one line; None before there is a run."""
        run = self.store.run_path(job)
        return summarise_run(run) if RunFolder.is_run(run) else None

    def _summary_since_start(self, job: Job) -> RunSummary | None:
        """The same, once it trains, and not what an earlier start of the job left."""
        begun = RunFolder(self.store.run_path(job)).status_path.is_file()
        summary = self.summary(job) if begun else None
        told_at = None if summary is None else summary.updated_at
        return summary if told_at is not None and told_at >= (job.started_at or 0.0) else None

    def _ended(self, job: Job) -> Job:
        """By the exit code; where no server saw it, by what the run says of its end."""
        summary, code = self._summary_since_start(job), job.exit_code
        told = summary.state if summary is not None else "unknown"
        if code == 0 or (code is None and told in ("completed", "early_stopped")):
            return replace(job, state="completed")
        if code == INTERRUPTED or told == "interrupted" or job.cancelled_at is not None:
            return replace(job, state="cancelled")
        error, traceback = failure(self.store.log_path(job), code)
        if told == "failed":
            status = read_json(RunFolder(self.store.run_path(job)).status_path) or {}
            error = str(status.get("reason") or error)
        return replace(job, state="failed", error=error, traceback=traceback)

    def _start(self, job: Job) -> Job:
        now = time.time()
        try:
            child = start_training(
                self.store.config_path(job), self.store.run_path(job), self.store.log_path(job), job.device
            )
        except OSError as error:
            why = f"The training could not be started: {error}"
            return self._write(replace(job, state="failed", started_at=now, ended_at=now, error=why))
        self._children[job.id] = child
        started = replace(job, state="pending", started_at=now, pid=child.pid)
        return self._write(replace(started, process_start=process_start(child.pid)))

    def _seen(self, id: str) -> Job | None:
        job = self.store.find(id)
        return None if job is None else self._write(self.look(job), job)

    def _write(self, job: Job, before: Job | None = None) -> Job:
        if job != before:
            self.store.write(job)
        return job

    @contextmanager
    def _locked(self) -> Generator[None]:
        with self._lock, self.store.lock():
            yield
