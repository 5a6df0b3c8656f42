"""Verdict and scores of a run, worked out once for what is on disk."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from fettle.decide import choose_checkpoint, rank_checkpoints

if TYPE_CHECKING:
    from fettle.api import Run
    from fettle.server.open_run import OpenRun


def judged(open_run: OpenRun, run: Run) -> dict[str, Any]:
    """The verdict as plain values."""
    return open_run.derived("verdict", run.evidence_stamp(), lambda: run.verdict().to_json())


def checkpoint_rows(open_run: OpenRun, run: Run) -> tuple[list[dict[str, Any]], int | None]:
    """Every checkpoint with its score, the newest first, and the step of the verdict's choice."""
    key = (run.checkpoint_stamp(), run.train_reaches_last_eval())
    return open_run.derived("checkpoints", key, lambda: _rows(run))


def _rows(run: Run) -> tuple[list[dict[str, Any]], int | None]:
    checkpoints, evals = run.checkpoints(), run.evals()
    ranked = rank_checkpoints(checkpoints, evals, run.columns("train"))
    choice = choose_checkpoint(evals, checkpoints)
    best = choice.step if choice else None
    saved = {checkpoint.step: checkpoint for checkpoint in checkpoints}
    latest = max(saved, default=None)
    rows = [
        {
            **row.to_json(),
            "path": None if (where := saved[row.step].location) is None else str(where),
            "size_bytes": saved[row.step].size_bytes,
            "created_at": saved[row.step].created_at,
            "is_best": row.step == best,
            "is_latest": row.step == latest,
            "on_disk": saved[row.step].path is not None,
            "pinned": saved[row.step].pinned,
        }
        for row in ranked
    ]
    return sorted(rows, key=itemgetter("step"), reverse=True), best
