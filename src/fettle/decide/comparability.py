"""Whether train loss and eval loss are the same quantity, and may be set against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.runs.records import FixedEval

Columns = Mapping[str, NDArray[np.float64]]

SUSPICIOUS_RATIO = 3.0
"""Train loss over eval loss that no difference between the sets explains at every eval of a run."""
CONSTANT_WITHIN = 1.5
"""Largest over smallest ratio late in training that still reads as one constant factor."""


@dataclass(frozen=True, slots=True)
class Comparability:
    """Whether a gap between train and eval loss means anything."""

    comparable: bool | None
    """None where too little was logged to tell."""
    ratio: float | None
    """Median train loss over eval loss at the last evals."""
    factor: int | None
    """The number of accumulation steps that the ratio looks like, where it looks like one."""
    explanation: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def loss_comparability(train: Columns, evals: Sequence[FixedEval]) -> Comparability:
    """Detect a train loss that is not a mean per token, as eval loss is.

    Some trainers log the sum over gradient accumulation steps. Then train loss is a multiple of
    eval loss at *every* eval, by a factor that settles. Train loss logged before an eval is higher
    anyway while it still falls, so the lower of the log rows on both sides of the eval counts.
    Overfitting goes the other way (train below eval) and is no sign of this.
    """
    if _per_token_by_construction(train):
        return Comparability(True, _late(_ratios(train, evals)), None, "train loss is logged per token")
    ratios = _ratios(train, evals)
    if len(ratios) == 0:
        return Comparability(None, None, None, "train and eval loss were not logged together")
    late = _late(ratios)
    recent = ratios[-max(2, len(ratios) // 2) :]
    # Early on the lower log row may come from well after the eval; a sum never falls below its mean.
    if min(recent) <= SUSPICIOUS_RATIO or min(ratios) <= 1.0:
        return Comparability(True, late, None, "train and eval loss are on one scale")
    if len(ratios) < 2:
        explanation = f"train loss is {late:.1f} times eval loss at the only eval: too little to tell why"
        return Comparability(None, late, None, explanation)
    if late is None or max(recent) / min(recent) > CONSTANT_WITHIN:
        explanation = "train loss stays more than 3 times above eval loss, by no steady factor"
        return Comparability(None, late, None, explanation)
    factor = _factor(late)
    cause = f"as if summed over {factor} gradient accumulation steps" if factor else "by a steady factor"
    return Comparability(
        False, late, factor,
        f"train loss stays far above eval loss and settles at {late:.1f} times it, {cause}: "
        "the two are not comparable, and their gap is left out",
    )  # fmt: skip


def train_loss_at(train: Columns, step: int, evals: Sequence[FixedEval] = ()) -> float | None:
    """Mean train loss logged since the eval before `step`, up to `step`, weighted by tokens if known.

    One log window is noisy against a whole evaluation set, so all since the last eval count; the
    last row alone where nothing was logged since, or no evals are given.
    """
    steps, loss = _rows(train)
    before = max((e.step for e in evals if e.step < step), default=None)
    inside = steps <= step
    if not inside.any():
        return None
    since = inside & (steps > (before if before is not None else 0))
    inside = since if evals and since.any() else inside & (steps >= steps[inside].max())
    tokens = train.get("completion_tokens")
    if tokens is None:
        return float(loss[inside].mean())
    weights = np.asarray(tokens, dtype=np.float64)[_measured(train)][inside]
    if not np.isfinite(weights).all() or weights.sum() <= 0:
        return float(loss[inside].mean())
    return float(np.average(loss[inside], weights=weights))


def _measured(train: Columns) -> NDArray[np.bool_]:
    return np.isfinite(train["step"]) & np.isfinite(train["loss"])


def _rows(train: Columns) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if "step" not in train or "loss" not in train:
        return np.empty(0), np.empty(0)
    measured = _measured(train)
    return np.asarray(train["step"])[measured], np.asarray(train["loss"])[measured]


def _per_token_by_construction(train: Columns) -> bool:
    """Our own records carry the sum and the tokens; the loss is their quotient."""
    if not all(name in train for name in ("loss", "loss_sum", "completion_tokens")):
        return False
    loss, total, tokens = (np.asarray(train[n]) for n in ("loss", "loss_sum", "completion_tokens"))
    known = np.isfinite(loss) & np.isfinite(total) & (tokens > 0)
    if not known.any():
        return False
    return bool(np.allclose(loss[known], total[known] / tokens[known], rtol=1e-3, atol=1e-6))


def _ratios(train: Columns, evals: Sequence[FixedEval]) -> list[float]:
    steps, loss = _rows(train)
    ratios: list[float] = []
    for e in evals:
        if e.cross_entropy is None or e.cross_entropy <= 0 or steps.size == 0:
            continue
        after = int(np.searchsorted(steps, e.step, side="right"))
        around = loss[max(0, after - 1) : after + 1] if after else loss[:1]
        ratios.append(float(around.min()) / e.cross_entropy)
    return ratios


def _late(ratios: list[float]) -> float | None:
    return float(np.median(ratios[-3:])) if ratios else None


def _factor(ratio: float) -> int | None:
    """The power of two within 15 %, or the whole number within 5 %: how people accumulate."""
    power = 2 ** round(float(np.log2(ratio)))
    if abs(ratio / power - 1) <= 0.15:
        return power
    whole = round(ratio)
    return whole if abs(ratio / whole - 1) <= 0.05 and ratio < 12 else None
