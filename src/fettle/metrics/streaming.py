"""Exponential moving averages over the steps of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


class StreamingCrossEntropy:
    """Exponential moving average of the train loss, corrected for its cold start.

    average_t = (1 - α)·average_{t-1} + α·x_t, divided by 1 - (1 - α)^t (Kingma and Ba 2015, §3), so
    that the first value is the first loss and not α of it. α = 2/(300 + 1) weighs about 300 steps.
    A non-finite loss is left out: it would stay in the average for ever.
    """

    def __init__(self, alpha: float = 2 / 301) -> None:
        self.alpha = alpha
        self._numerator = 0.0
        self._denominator = 0.0

    @property
    def value(self) -> float | None:
        """Nats per token; None before the first update."""
        return self._numerator / self._denominator if self._denominator > 0 else None

    def update(self, value: float, weight: float = 1.0) -> float | None:
        """Take one step in; `weight` scales its share (tokens of this step over those of a usual one)."""
        if math.isfinite(value) and weight > 0:
            # A step of weight w counts as w steps of the same loss.
            keep = (1 - self.alpha) ** weight
            self._numerator = keep * self._numerator + (1 - keep) * value
            self._denominator = keep * self._denominator + (1 - keep)
        return self.value

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps; `restore` continues exactly."""
        return {"alpha": self.alpha, "numerator": self._numerator, "denominator": self._denominator}

    def restore(self, state: Mapping[str, float]) -> None:
        """Continue from `state()`."""
        self.alpha = float(state["alpha"])
        self._numerator = float(state["numerator"])
        self._denominator = float(state["denominator"])


def ema(values_T: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """The same average at every step of a column, [T]; NaN steps repeat the average before them."""
    values_T = np.asarray(values_T, dtype=np.float64)
    average = StreamingCrossEntropy(alpha)
    out_T = np.full(values_T.shape, np.nan)
    for i, value in enumerate(values_T.tolist()):
        current = average.update(value)
        out_T[i] = np.nan if current is None else current
    return out_T
