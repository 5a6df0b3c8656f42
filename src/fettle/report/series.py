"""Columns of a run as series that can be drawn: sorted out, thinned, with epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fettle.metrics import ema
from fettle.runs.records import FixedEval

Floats = NDArray[np.float64]
Columns = Mapping[str, Floats]


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Values over steps; a value that is not finite stays, to be marked."""

    name: str
    steps: Floats
    values: Floats

    @property
    def known(self) -> bool:
        """Whether anything can be drawn."""
        return bool(np.isfinite(self.values).any())

    def finite(self) -> tuple[Floats, Floats]:
        """Steps and values without the points that are not finite."""
        kept = np.isfinite(self.values)
        return self.steps[kept], self.values[kept]

    def smoothed(self, alpha: float) -> Series:
        """Bias-corrected moving average; the series itself where it is shorter than the average."""
        if np.isfinite(self.values).sum() < 2 / alpha:
            return self
        return Series(self.name, self.steps, ema(self.values, alpha))

    def at(self, step: float) -> float:
        """The value at or before `step`; -inf where there is none."""
        steps, values = self.finite()
        before = int(np.searchsorted(steps, step, side="right"))
        return float(values[before - 1]) if before else -np.inf


def series(train: Columns, key: str) -> Series:
    """One column of the train records; empty where it was not recorded."""
    if key not in train or "step" not in train:
        return Series("train loss" if key == "loss" else key, np.empty(0), np.empty(0))
    steps, values = np.asarray(train["step"], dtype=np.float64), np.asarray(train[key], dtype=np.float64)
    placed = np.isfinite(steps)
    return Series("train loss" if key == "loss" else key, steps[placed], values[placed])


def losses_of(evals: Sequence[FixedEval]) -> Series:
    """Validation loss; an eval whose loss was NaN or infinite keeps its place."""
    rows = [
        (e.step, np.nan if e.cross_entropy is None else e.cross_entropy)
        for e in evals
        if e.cross_entropy is not None or _was_not_finite(e)
    ]
    steps = np.array([step for step, _ in rows], dtype=np.float64)
    return Series("validation loss", steps, np.array([value for _, value in rows], dtype=np.float64))


def _was_not_finite(e: FixedEval) -> bool:
    return any(f"{key}_nonfinite" in e.extra for key in ("cross_entropy", "eval_loss", "val_loss"))


def thinned(steps: Floats, values: Floats, buckets: int = 2_000) -> tuple[Floats, Floats]:
    """At most 2 · buckets points with the lowest and highest of each bucket: no spike is lost."""
    if len(steps) <= 2 * buckets:
        return steps, values
    bounds: list[int] = np.linspace(0, len(steps), buckets + 1).astype(np.int64).tolist()
    # A bucket of NaN alone keeps its NaN, so that the gap in the line stays.
    lowest = [a + int(np.argmin(_high(values[a:b]))) for a, b in pairwise(bounds)]
    highest = [a + int(np.argmax(_low(values[a:b]))) for a, b in pairwise(bounds)]
    kept = np.unique(np.array(lowest + highest, dtype=np.int64))
    return steps[kept], values[kept]


def _high(values: Floats) -> Floats:
    return np.where(np.isnan(values), np.inf, values)


def _low(values: Floats) -> Floats:
    return np.where(np.isnan(values), -np.inf, values)


def epoch_ends(train: Columns) -> list[tuple[int, float]]:
    """(epoch, step) where each epoch ends, from the epoch column, interpolated between log rows."""
    if "epoch" not in train or "step" not in train:
        return []
    steps, epochs = np.asarray(train["step"]), np.asarray(train["epoch"])
    known = np.isfinite(steps) & np.isfinite(epochs)
    steps, epochs = steps[known], epochs[known]
    if steps.size < 2:
        return []
    order = np.argsort(steps, kind="stable")
    steps, epochs = steps[order], np.maximum.accumulate(epochs[order])
    whole = range(int(epochs[0]) + 1, int(epochs[-1] + 1e-9) + 1)
    return [(epoch, float(steps[np.searchsorted(epochs, epoch - 1e-9)])) for epoch in whole]
