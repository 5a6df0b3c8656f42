"""The composite checkpoint score: one number a checkpoint, given once, when it is saved."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

SCORE_VERSION = "composite-1"

EVAL_WEIGHT = 0.5
GAP_WEIGHT = 0.3
PERPLEXITY_WEIGHT = 0.1
PERPLEXITY_SCALE = 20.0
IMPROVEMENT_BONUS = 0.1
SMALLEST_EVAL_LOSS = 0.001


@dataclass(frozen=True, slots=True)
class CheckpointScore:
    """A composite score with all that went into it, to be stored beside the checkpoint."""

    score: float | None
    """Lower is better; None is incomparable, never better or worse than another."""
    components: dict[str, float] = field(default_factory=dict[str, float])
    """`eval`, `gap`, `perplexity`, `bonus`: they add up to the score."""
    inputs: dict[str, float | None] = field(default_factory=dict[str, float | None])
    version: str = SCORE_VERSION
    reason: str | None = None
    """Why there is no score."""


def checkpoint_score(
    eval_loss: float | None, train_loss: float | None, improved: bool | None
) -> CheckpointScore:
    """0.5·E + 0.3·|T - E|/max(E, 0.001) + 0.1·min(exp(E)/20, 1) - 0.1 if `improved`.

    E and T are nats per completion token of the evaluation set and of training around it.
    `improved` says whether *this* eval beat the best before it (None: there was none before); it is
    the only thing the bonus depends on. A missing or non-finite loss makes the checkpoint
    incomparable: a score without the gap would be lower, and reward the gap for not being measured.
    """
    inputs: dict[str, float | None] = {
        "eval_loss": eval_loss if _finite(eval_loss) else None,
        "train_loss": train_loss if _finite(train_loss) else None,
        "improved": None if improved is None else float(improved),
    }
    reason = _missing(eval_loss, "eval loss") or _missing(train_loss, "train loss")
    if reason or eval_loss is None or train_loss is None:
        return CheckpointScore(None, inputs=inputs, reason=reason)
    components = {
        "eval": EVAL_WEIGHT * eval_loss,
        "gap": GAP_WEIGHT * abs(train_loss - eval_loss) / max(eval_loss, SMALLEST_EVAL_LOSS),
        "perplexity": PERPLEXITY_WEIGHT * _perplexity_share(eval_loss),
        "bonus": -IMPROVEMENT_BONUS if improved else 0.0,
    }
    return CheckpointScore(sum(components.values()), components, inputs)


def incomparable(
    eval_loss: float | None, train_loss: float | None, improved: bool | None, reason: str
) -> CheckpointScore:
    """A checkpoint whose losses are there but cannot be set against each other."""
    measured = checkpoint_score(eval_loss, train_loss, improved)
    return CheckpointScore(None, inputs=measured.inputs, reason=reason)


def compare_checkpoints(a: CheckpointScore, b: CheckpointScore) -> Literal["a", "b", "tie", "incomparable"]:
    """Which of two scores is better; `incomparable` where either has none or the formulas differ."""
    if a.score is None or b.score is None or a.version != b.version:
        return "incomparable"
    if a.score == b.score:
        return "tie"
    return "a" if a.score < b.score else "b"


def _perplexity_share(eval_loss: float) -> float:
    """min(exp(E)/20, 1) without overflow: above log 20 it is 1."""
    return 1.0 if eval_loss >= math.log(PERPLEXITY_SCALE) else math.exp(eval_loss) / PERPLEXITY_SCALE


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _missing(value: float | None, name: str) -> str | None:
    if value is None:
        return f"{name} was not measured"
    return None if math.isfinite(value) else f"{name} is {value}"
