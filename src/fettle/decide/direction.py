"""Which way a number goes just now, for an arrow beside it. Whether it means anything, `trend` tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fettle.decide.trend import DEFAULT_MARGIN
from fettle.runs.records import FixedEval

Word = Literal["falling", "rising", "level"]

WINDOW = 100
"""Last logged steps of a noisy series that are looked at: their halves are compared."""
LEAST = 10
"""Fewer numbers than this have no direction."""
STANDARD_ERRORS = 2.0
AVERAGE_SPAN = 300
"""Rows over which an average over about 300 steps is compared with itself: none of its steps count twice."""
LEVEL_SHARE = 0.01
"""An average that changed by less than this share is level."""


@dataclass(frozen=True, slots=True)
class Direction:
    """Where a series went: up or down is said by the numbers alone."""

    word: Word
    change: float
    """Last minus earlier."""
    rows: int
    """Logged rows, or evals, that the change spans."""


def noisy_direction(values_N: NDArray[np.float64], window: int = WINDOW) -> Direction | None:
    """The mean of the later half of the last `window` finite values minus that of the earlier half.

    Level where it is within two standard errors, sqrt(s1²/n1 + s2²/n2) (Welch). None below ten values.
    """
    recent_W = _finite_tail(values_N, window)
    if recent_W.size < LEAST:
        return None
    half = recent_W.size // 2
    earlier, later = recent_W[-2 * half : -half], recent_W[-half:]
    change = float(later.mean() - earlier.mean())
    error = math.sqrt((earlier.var(ddof=1) + later.var(ddof=1)) / half)
    return Direction(_word(change, STANDARD_ERRORS * error), change, 2 * half)


def average_direction(values_N: NDArray[np.float64], span: int = AVERAGE_SPAN) -> Direction | None:
    """The last finite value of a moving average minus the one `span` values before, or the first.

    Level where it changed by less than 1 % of its size. None below ten values.
    """
    recent_W = _finite_tail(values_N, span + 1)
    if recent_W.size < LEAST:
        return None
    change = float(recent_W[-1] - recent_W[0])
    return Direction(_word(change, LEVEL_SHARE * abs(float(recent_W[0]))), change, recent_W.size - 1)


def eval_direction(evals: Sequence[FixedEval]) -> Direction | None:
    """Cross-entropy of the last eval minus that of the one before; level within 0.005 nats.

    None where fewer than two evals measured it.
    """
    measured = [e.cross_entropy for e in sorted(evals, key=lambda e: e.step) if e.cross_entropy is not None]
    if len(measured) < 2:
        return None
    change = measured[-1] - measured[-2]
    return Direction(_word(change, DEFAULT_MARGIN["cross_entropy"]), change, 1)


def _finite_tail(values_N: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The last `count` finite values; looked for among twice as many rows, whatever the length."""
    tail = values_N[-2 * count :]
    return tail[np.isfinite(tail)][-count:]


def _word(change: float, level: float) -> Word:
    if abs(change) <= level:
        return "level"
    return "falling" if change < 0 else "rising"
