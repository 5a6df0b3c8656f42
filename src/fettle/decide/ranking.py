"""Checkpoints of a run, best first, each with its composite score and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.decide.comparability import Comparability, loss_comparability, train_loss_at
from fettle.decide.score import CheckpointScore, checkpoint_score, incomparable
from fettle.runs.records import Checkpoint, FixedEval


@dataclass(frozen=True, slots=True)
class RankedCheckpoint:
    """One checkpoint and its place."""

    rank: int | None
    """1 is the best score; None is incomparable."""
    step: int
    path: Path | str | None
    """Its folder, or the URL under which a service keeps it; None where it is gone."""
    epoch: float | None
    score: CheckpointScore
    stored: bool
    """Whether the score was given when the checkpoint was saved; else it was worked out from the log."""
    train_loss: float | None
    cross_entropy: float | None
    exact_match: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "rank": self.rank,
            "step": self.step,
            "path": str(self.path) if self.path else None,
            "epoch": self.epoch,
            "score": self.score.score,
            "components": self.score.components,
            "inputs": self.score.inputs,
            "score_version": self.score.version,
            "reason": self.score.reason,
            "stored": self.stored,
            "train_loss": self.train_loss,
            "cross_entropy": self.cross_entropy,
            "exact_match": self.exact_match,
        }


def rank_checkpoints(
    checkpoints: Sequence[Checkpoint],
    evals: Sequence[FixedEval],
    train: Mapping[str, NDArray[np.float64]],
) -> list[RankedCheckpoint]:
    """Best composite score first, then those without one, newest first.

    A score that was stored when the checkpoint was saved stands. A run of another tool is scored
    here from its log, once an eval, by the same formula. Where train and eval loss are not
    comparable no checkpoint has a score, whatever was stored.
    """
    comparability = loss_comparability(train, evals)
    scores = score_evals(evals, train, comparability)
    measured = {e.step: e for e in evals}
    rows = [_row(c, measured.get(c.step), scores.get(c.step), comparability) for c in checkpoints]
    ranked = sorted((r for r in rows if r.score.score is not None), key=lambda r: (r.score.score, r.step))
    unranked = sorted((r for r in rows if r.score.score is None), key=lambda r: -r.step)
    return [replace(r, rank=i + 1) for i, r in enumerate(ranked)] + unranked


def score_evals(
    evals: Sequence[FixedEval],
    train: Mapping[str, NDArray[np.float64]],
    comparability: Comparability | None = None,
) -> dict[int, CheckpointScore]:
    """The composite score at every eval, as it would have been given at the time: step -> score."""
    comparability = comparability or loss_comparability(train, evals)
    best: float | None = None
    scores: dict[int, CheckpointScore] = {}
    for e in sorted(evals, key=lambda e: e.step):
        loss = e.cross_entropy
        improved = None if best is None or loss is None else loss < best
        train_loss = train_loss_at(train, e.step, evals)
        if comparability.comparable is False:
            scores[e.step] = incomparable(loss, train_loss, improved, comparability.explanation)
        else:
            scores[e.step] = checkpoint_score(loss, train_loss, improved)
        if loss is not None:
            best = loss if best is None else min(best, loss)
    return scores


def _row(
    checkpoint: Checkpoint,
    measured: FixedEval | None,
    from_log: CheckpointScore | None,
    comparability: Comparability,
) -> RankedCheckpoint:
    stored = checkpoint.score is not None and checkpoint.score_version is not None
    score = from_log or CheckpointScore(None, reason="no eval at this step")
    if stored and checkpoint.score_version is not None:
        score = CheckpointScore(
            checkpoint.score, dict(checkpoint.components), dict(checkpoint.inputs), checkpoint.score_version
        )
    if stored and comparability.comparable is False:
        score = replace(score, score=None, components={}, reason=comparability.explanation)
    return RankedCheckpoint(
        rank=None,
        step=checkpoint.step,
        path=checkpoint.location,
        epoch=checkpoint.epoch if checkpoint.epoch is not None else (measured.epoch if measured else None),
        score=score,
        stored=stored,
        train_loss=_first(checkpoint.train_loss, score.inputs.get("train_loss")),
        cross_entropy=_first(checkpoint.cross_entropy, measured.cross_entropy if measured else None),
        exact_match=_first(checkpoint.exact_match, measured.exact_match if measured else None),
    )


def _first(*values: float | None) -> float | None:
    return next((v for v in values if v is not None), None)
