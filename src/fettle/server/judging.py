"""Verdict and scores of a run, worked out once for what is on disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fettle.decide import choose_checkpoint, rank_checkpoints

if TYPE_CHECKING:
    from fettle.api import Run
    from fettle.server.open_run import OpenRun

# Rows of these types alone change no verdict, and they come all the time.
FREQUENT = frozenset({"train", "system", "layers"})


def judged(open_run: OpenRun, run: Run) -> dict[str, Any]:
    """The verdict as plain values."""
    return open_run.derived("verdict", _evidence_stamp(run), lambda: run.verdict().to_json())


def checkpoint_rows(open_run: OpenRun, run: Run) -> tuple[list[dict[str, Any]], int | None]:
    """Every checkpoint with its score, the newest first, and the step of the verdict's choice."""
    key = (run.checkpoint_stamp(), _train_reaches_last_eval(run))
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
    return sorted(rows, key=_newest_first), best


def _evidence_stamp(run: Run) -> tuple[Any, ...]:
    """Equal as long as a verdict rests on the same evidence."""
    counts = tuple(sorted((type, n) for type, n in run.counts().items() if type not in FREQUENT))
    # What an alert counts may grow by the second; that it is there, and how serious, is evidence.
    alerts = tuple((a.get("category"), a.get("level"), a.get("first_step")) for a in run.alerts())
    told = (run.segment, counts, run.state(), alerts, *run.problems)
    return (*told, run.checkpoint_stamp(), _train_reaches_last_eval(run))


def _train_reaches_last_eval(run: Run) -> bool:
    """Whether train loss was logged after the last eval: later rows tell nothing about any eval."""
    steps, evals = run.columns("train").get("step"), run.columns("fixed_eval").get("step")
    return (
        steps is not None and evals is not None and bool(steps.size and evals.size and steps[-1] > evals[-1])
    )


def _newest_first(row: Mapping[str, Any]) -> int:
    return -row["step"]
