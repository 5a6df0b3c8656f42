"""Checkpoints with their scores, also under the address that an earlier trainer gave them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path

from fettle.server.answer import Json
from fettle.server.context import NamedRun, Server, named
from fettle.server.shapes import Checkpoints, JobCheckpoints

router = APIRouter(prefix="/api")


@router.get("/runs/{id}/checkpoints", response_model=Checkpoints)
def checkpoints(run: NamedRun) -> Json:
    """Every checkpoint, the newest first, with its score and what the score is made of."""
    from fettle.server.judging import checkpoint_rows

    with run.reading() as reader:
        rows, best = checkpoint_rows(run.open, reader)
        return Json({"checkpoints": rows, "best_step": best})


@router.get("/training/checkpoints/{job_id}", response_model=JobCheckpoints)
def job_checkpoints(server: Server, job_id: Annotated[str, Path(description="Id of a job or a run")]) -> Json:
    """Checkpoints of a training job by the fields of an earlier API, and their scores."""
    from fettle.server.judging import checkpoint_rows

    found: list[dict[str, Any]] = []
    # A job that has not begun has no run yet.
    if server.listing.find(job_id) is not None or server.jobs.store.find(job_id) is None:
        run = named(server, job_id)
        with run.reading() as reader:
            rows, _ = checkpoint_rows(run.open, reader)
        found = [_job_row(row) for row in rows]
    return Json(
        {
            "job_id": job_id,
            "checkpoints": found,
            "best_checkpoint": next((row for row in found if row["is_best"]), None),
            "message": None if found else "no checkpoint was saved yet",
        }
    )


def _job_row(row: dict[str, Any]) -> dict[str, Any]:
    same = (
        "path", "epoch", "step", "train_loss", "size_bytes", "created_at", "is_best", "is_latest", "score",
        "components",
    )  # fmt: skip
    return {"eval_loss": row["cross_entropy"], **{name: row[name] for name in same}}
