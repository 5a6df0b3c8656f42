"""Trainings that are launched from here: queued, looked at, ended."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, HTTPException, Path
from pydantic import BaseModel, ConfigDict, Field

from fettle.errors import ConfigError
from fettle.jobs.failure import printed_tail
from fettle.jobs.job import Job
from fettle.runs.discover import is_inside
from fettle.server.answer import Json, text
from fettle.server.context import CHANGES, Context, Server, require_control
from fettle.server.shapes import JobDetail, JobList

if TYPE_CHECKING:
    from fettle.config import Config

LONGEST_CONFIG, LONGEST_PATH = 8_000, 1_000
"""Characters; together they stay below the longest body, however they are written."""
SHOWN_LINES = 100

router = APIRouter(prefix="/api/training/jobs")
JobId = Annotated[str, Path(description="Id of a job")]


class Launch(BaseModel):
    """A training to queue: its configuration as text, or the file that holds it."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    config: str | None = Field(None, max_length=LONGEST_CONFIG)
    """YAML. Paths in it are relative to the served folder."""
    path: str | None = Field(None, max_length=LONGEST_PATH)
    """A YAML file below the served folder. Paths in it are relative to its own folder."""
    device: int | None = Field(None, ge=0, lt=1024, strict=True)
    """Number of the GPU it has to itself; null: nothing else runs beside it."""


class Nothing(BaseModel):
    """A body without content: `{}`."""

    model_config = ConfigDict(extra="forbid")


@router.post("", response_model=JobDetail, status_code=202, responses=CHANGES)
def launch(server: Server, asked: Launch) -> Json:
    """Check a configuration and queue a training by it; 422 names the key that is wrong."""
    from fettle.config import check_files

    require_control(server)
    config = _config(server, asked)
    check_files(config)
    return Json(_detail(server, server.jobs.submit(config, asked.device)), 202)


@router.get("", response_model=JobList)
def jobs(server: Server) -> Json:
    """Every training that was launched from here, the newest first."""
    found = _seen(server)
    return Json({"jobs": [_row(server, job, found) for job in reversed(found)]})


@router.get("/{job_id}", response_model=JobDetail)
def job(server: Server, job_id: JobId) -> Json:
    """One training: how it stands, what it trains by, what it printed."""
    return Json(_detail(server, _known(server.jobs.store.find(job_id))))


@router.post("/{job_id}/cancel", response_model=JobDetail, status_code=202, responses=CHANGES)
def cancel(server: Server, job_id: JobId, nothing: Nothing) -> Json:
    """Take it out of the queue, or have it save a checkpoint and end; asked again, it is killed."""
    require_control(server)
    return Json(_detail(server, _known(server.jobs.cancel(job_id))), 202)


@router.post("/{job_id}/restart", response_model=JobDetail, status_code=202, responses=CHANGES)
def restart(server: Server, job_id: JobId, nothing: Nothing) -> Json:
    """Queue it again, where it was cancelled or failed: it goes on from its newest checkpoint."""
    require_control(server)
    return Json(_detail(server, _known(server.jobs.restart(job_id))), 202)


def _known(job: Job | None) -> Job:
    if job is None:
        raise HTTPException(404, "there is no such job; GET /api/training/jobs lists them")
    return job


def _config(server: Context, asked: Launch) -> Config:
    from fettle.config import load_config, parse_config

    root = server.jobs.store.root
    if (asked.config is None) == (asked.path is None):
        raise HTTPException(422, "give either `config`, a YAML text, or `path`, a YAML file")
    if asked.config is not None:
        config = parse_config(asked.config, "config", root)
        if config.notify.command is not None:
            # Whoever has the token may train; that is not to run any program.
            raise ConfigError("config [notify]: 'command' is taken from a file only. Give the path of one")
        return config
    path = root / str(asked.path)
    if not _is_file_inside(path, root):
        raise HTTPException(422, text(f"path: {asked.path} is no file below the served folder"))
    return load_config(path)


def _is_file_inside(path: FilePath, root: FilePath) -> bool:
    try:
        return is_inside(path, root) and path.is_file()
    except (OSError, ValueError):  # A name that is too long, or holds a zero byte.
        return False


def _seen(server: Context) -> list[Job]:
    return [server.jobs.look(job) for job in server.jobs.store.all()]


def _detail(server: Context, job: Job) -> dict[str, Any]:
    store, job = server.jobs.store, server.jobs.look(job)
    path = store.config_path(job)
    return {
        **_row(server, job, _seen(server)),
        "traceback": job.traceback,
        "config": path.read_text(encoding="utf-8") if path.is_file() else None,
        "log": printed_tail(store.log_path(job)).splitlines()[-SHOWN_LINES:],
    }


def _row(server: Context, job: Job, all: list[Job]) -> dict[str, Any]:
    waiting = [other.id for other in all if other.state == "queued"]
    summary = server.jobs.summary(job)
    told = {} if summary is None else summary.to_json()
    same = ("state", "device", "created_at", "started_at", "ended_at", "exit_code", "error")
    of_run = ("step", "total_steps", "epoch", "loss", "eta_seconds")
    return {
        "job_id": job.id,
        **{name: getattr(job, name) for name in same},
        "has_run": summary is not None,
        "queue_position": waiting.index(job.id) + 1 if job.id in waiting else None,
        "cancelling": job.cancelled_at is not None and not job.ended,
        **{name: told.get(name) for name in of_run},
    }
