"""Which checkpoints stay on disk, and why; nothing is moved here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fettle.config import CheckpointsConfig
from fettle.decide.choice import best_first, choose_checkpoint
from fettle.runs.records import Checkpoint, FixedEval

METRICS = {"exact_match": "exact match", "cross_entropy": "cross-entropy"}


@dataclass(frozen=True, slots=True)
class Retention:
    """What becomes of one checkpoint on this disk."""

    step: int
    path: Path
    size_bytes: int | None
    reasons: list[str]
    """Everything that keeps it; [] where nothing does."""

    @property
    def keep(self) -> bool:
        return bool(self.reasons)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "step": self.step,
            "path": str(self.path),
            "size_bytes": self.size_bytes,
            "keep": self.keep,
            "reasons": self.reasons,
        }


def retain(
    policy: CheckpointsConfig,
    checkpoints: Sequence[Checkpoint],
    evals: Sequence[FixedEval],
    *,
    resume_step: int | None = None,
) -> list[Retention]:
    """Every checkpoint on this disk, by step, with all that keeps it.

    Beside what the policy keeps, these stay: the verdict's choice, the newest, the one that training
    would go on from (`resume_step`, which differs where newer ones are damaged), pinned ones, the
    trainer's own best, and what lacks fettle.json, of which nobody knows where it comes from.
    """
    local = sorted((c for c in checkpoints if c.path is not None), key=lambda c: c.step)
    measured = _measured(evals, local)
    choice = choose_checkpoint(measured, local)
    best: list[int] = []
    if choice is not None:
        steps = {c.step for c in local}
        ranked = [e.step for e in best_first([e for e in measured if e.step in steps], choice.metric)]
        best = [choice.step, *(step for step in ranked if step != choice.step)]
    newest = [c.step for c in reversed(local)]

    rows: list[Retention] = []
    for c in local:
        assert c.path is not None
        reasons: list[str] = []
        if policy.keeps_all:
            reasons.append("no rule is given")
        if choice is not None and c.step == choice.step:
            reasons.append("the verdict's choice")
        if c.pinned:
            reasons.append("pinned")
        if not c.has_provenance:
            reasons.append("no fettle.json says where it comes from")
        if c.extra.get("best_of_trainer"):
            reasons.append("the trainer's own best")
        if c.step in (newest[0], resume_step):
            reasons.append("training goes on from it" if c.step == resume_step else "the newest")
        if policy.keep_best is not None and choice is None:
            reasons.append("no eval says which are the best")
        elif policy.keep_best is not None and choice is not None and c.step in best[: policy.keep_best]:
            reasons.append(f"among the {policy.keep_best} best by {METRICS[choice.metric]}")
        if policy.keep_latest is not None and c.step in newest[: policy.keep_latest]:
            reasons.append(f"among the {policy.keep_latest} newest")
        if policy.keep_every_steps is not None and c.step % policy.keep_every_steps == 0:
            reasons.append(f"one of every {policy.keep_every_steps} steps")
        rows.append(Retention(c.step, c.path, c.size_bytes, reasons))
    return rows


def _measured(evals: Sequence[FixedEval], checkpoints: Sequence[Checkpoint]) -> list[FixedEval]:
    """The evals, and for steps whose eval is lost, what the checkpoint itself says it was."""
    known = {e.step for e in evals}
    stored = [
        FixedEval(step=c.step, cross_entropy=c.cross_entropy, exact_match=c.exact_match)
        for c in checkpoints
        if c.step not in known and (c.cross_entropy is not None or c.exact_match is not None)
    ]
    return [*evals, *stored]
