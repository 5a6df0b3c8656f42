"""The direction of evals that hold no per-sample results: a reading of the numbers, not a test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

RECENT = 3
"""Evals that must agree before a direction is named."""


@dataclass(frozen=True, slots=True)
class Direction:
    """Where the numbers go, and what was seen of them."""

    direction: Literal["improving", "plateau", "regressing"] | None
    since_step: int | None
    effect: float
    evals: int
    explanation: str


def untested_direction(
    values: Sequence[tuple[int, float]], *, higher_is_better: bool, window: int, margin: float
) -> Direction:
    """Read the direction of (step, value) pairs, at least 3 of them.

    - regressing: each of the last 3 evals is worse than the best before them by more than `margin`;
    - improving: the best of all is among the last 2, and the last 3 gained more than `margin`;
    - plateau: a line through the last `window` evals leaves room for less than `margin`, by the
      scatter of the evals around it;
    - None: none of these.
    """
    sign = 1.0 if higher_is_better else -1.0
    steps = [step for step, _ in values]
    scores = np.array([sign * value for _, value in values])
    best = int(np.argmax(scores))
    if best < len(scores) - RECENT and bool((scores[best] - scores[-RECENT:] > margin).all()):
        change = sign * float(scores[-1] - scores[best])
        return Direction(
            "regressing", steps[best], change, len(scores) - best,
            f"{_change(change, higher_is_better)} from its best at step {steps[best]}, "
            f"and worse in each of the last {RECENT} evals",
        )  # fmt: skip
    gain = float(scores[-1] - scores[-RECENT])
    if best >= len(scores) - 2 and gain > margin:
        change = sign * gain
        return Direction(
            "improving", steps[-RECENT], change, RECENT,
            f"{_change(change, higher_is_better)} over the last {RECENT} evals",
        )  # fmt: skip
    return _levelled(steps, scores, sign, window, margin, higher_is_better)


def _levelled(
    steps: list[int], scores: np.ndarray, sign: float, window: int, margin: float, higher_is_better: bool
) -> Direction:
    length = min(window, len(scores))
    fitted, upper = _line(np.array(steps[-length:], dtype=np.float64), scores[-length:])
    change = sign * fitted
    moved = f"{_change(change, higher_is_better)} over the last {length} evals"
    if upper < margin:
        return Direction("plateau", steps[-length], change, length, f"level: {moved}")
    return Direction(None, None, change, length, f"no clear direction: {moved}")


def _line(steps_W: np.ndarray, scores_W: np.ndarray) -> tuple[float, float]:
    """Change along a least-squares line, and its upper 95 % limit by Student's t on W - 2."""
    from scipy import special

    centred_W = steps_W - steps_W.mean()
    spread = float(centred_W @ centred_W)
    span = float(steps_W[-1] - steps_W[0])
    slope = float(centred_W @ scores_W) / spread
    residual_W = scores_W - scores_W.mean() - slope * centred_W
    freedom = len(steps_W) - 2
    error = (float(residual_W @ residual_W) / freedom / spread) ** 0.5
    return slope * span, slope * span + float(special.stdtrit(freedom, 0.95)) * error * span


def _change(change: float, exact_match: bool) -> str:
    return f"{100 * change:+.1f} points" if exact_match else f"{change:+.4f} nats"
