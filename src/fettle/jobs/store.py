"""The files of the jobs: `.fettle/jobs` below the served folder."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import orjson
from filelock import FileLock, Timeout

from fettle.errors import RunError
from fettle.jobs.job import Job
from fettle.runs.discover import is_inside
from fettle.runs.folder import read_json, replace_file

WAIT_SECONDS = 10.0


class JobStore:
    """Jobs by id. A job is `<id>.json`, its configuration `<id>.yaml`, what it printed `<id>.log`."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))
        self._folder = self.root / ".fettle" / "jobs"
        self._read: dict[str, tuple[tuple[int, int], Job | None]] = {}

    def all(self) -> list[Job]:
        """Every job, the oldest first. What is no job is left out."""
        if not self._folder.is_dir() or not is_inside(self._folder, self.root):
            return []
        found = [self._job(path) for path in self._folder.glob("*.json")]
        return sorted((job for job in found if job is not None), key=lambda job: (job.created_at, job.id))

    def _job(self, path: Path) -> Job | None:
        """What one file holds; read again only where it was replaced."""
        try:
            status = path.stat()
        except OSError:
            return None
        stamp = (status.st_mtime_ns, status.st_ino)
        before = self._read.get(path.name)
        if before is None or before[0] != stamp:
            job = Job.from_json(read_json(path) or {})
            before = self._read[path.name] = (stamp, job if job is not None and job.id == path.stem else None)
        return before[1]

    def find(self, id: str) -> Job | None:
        """The job of this id. It is looked up among those there are, never made into a path."""
        return next((job for job in self.all() if job.id == id), None)

    def write(self, job: Job) -> None:
        """Replace the job's file at once. Raises RunError where the disk refuses."""
        self._replace(f"{job.id}.json", orjson.dumps(job.to_json(), option=orjson.OPT_INDENT_2))

    def write_config(self, job: Job, yaml: str) -> None:
        """Keep the configuration that the job trains by."""
        self._replace(f"{job.id}.yaml", yaml.encode())

    def config_path(self, job: Job) -> Path:
        """Its configuration, resolved."""
        return self._folder / f"{job.id}.yaml"

    def log_path(self, job: Job) -> Path:
        """What its process printed."""
        return self._folder / f"{job.id}.log"

    def run_path(self, job: Job) -> Path:
        """Its run folder."""
        return self.root / job.id

    @contextmanager
    def lock(self) -> Generator[None]:
        """Hold all jobs for writing, against other servers of the same folder. Raises RunError."""
        try:
            self._make_folder()
            with FileLock(self._folder / ".lock", timeout=WAIT_SECONDS):
                yield
        except Timeout:
            raise RunError(f"{self._folder}: another server holds the jobs. Ask again") from None

    def _replace(self, name: str, content: bytes) -> None:
        self._make_folder()
        try:
            replace_file(self._folder / name, content)
        except OSError as error:
            raise RunError(f"{self._folder}: cannot be written: {error.strerror or error}") from error

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{self._folder}: cannot be made: {error.strerror or error}") from error
        if not is_inside(self._folder, self.root):
            raise RunError(f"{self._folder} leads out of the served folder. Remove that link")
