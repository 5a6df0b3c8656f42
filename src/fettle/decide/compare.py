"""Evals of different runs against each other, on the samples they share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from fettle.decide.paired import Metric, PairedPath, mcnemar, pair
from fettle.runs.records import FixedEval

QUANTILE = 1.959963984540054
"""Of the normal distribution, for 95 %."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of two runs; None where they cannot be compared, for the `reason`."""

    a: str
    b: str
    metric: Metric
    difference: float | None
    """b minus a: of exact match as a share, of cross-entropy in nats per token."""
    low: float | None
    """95 % interval of the difference, over samples."""
    high: float | None
    p: float | None
    """Two-sided: McNemar's exact test, or the normal one of the paired differences."""
    p_adjusted: float | None
    """By Holm's method, over all comparisons of this metric."""
    samples: int
    """Shared by both."""
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def compare_runs(evals: Mapping[str, FixedEval]) -> list[Comparison]:
    """All pairs of runs, each by one of its evals, in both metrics."""
    found: list[Comparison] = []
    for metric in ("exact_match", "cross_entropy"):
        pairs = combinations(evals.items(), 2)
        compared = [_compare(a, b, before, after, metric) for (a, before), (b, after) in pairs]
        tested = [place for place, comparison in enumerate(compared) if comparison.p is not None]
        adjusted = holm([compared[place].p or 0.0 for place in tested])
        for place, p in zip(tested, adjusted, strict=True):
            compared[place] = replace(compared[place], p_adjusted=p)
        found += compared
    return found


def _compare(a: str, b: str, before: FixedEval, after: FixedEval, metric: Metric) -> Comparison:
    path = pair([before, after], metric)
    if path is None or len(path.steps) < 2:
        reason = "no per-sample results of the same samples"
        return Comparison(a, b, metric, None, None, None, None, None, 0, reason)
    difference, error = path.difference(1, 0)
    p = mcnemar_two_sided(path, 1, 0) if metric == "exact_match" else _normal_two_sided(difference, error)
    low, high = difference - QUANTILE * error, difference + QUANTILE * error
    if not math.isfinite(error):  # A single sample.
        low = high = None
    return Comparison(a, b, metric, difference, low, high, p, None, path.samples)


def mcnemar_two_sided(path: PairedPath, later: int, earlier: int) -> float:
    """McNemar's exact test of two columns of a path of exact matches."""
    change_N = path.values[:, later] - path.values[:, earlier]
    gained, lost = int(np.count_nonzero(change_N > 0)), int(np.count_nonzero(change_N < 0))
    return min(1.0, 2 * min(mcnemar(lost, gained), mcnemar(gained, lost)))


def _normal_two_sided(difference: float, error: float) -> float | None:
    if not math.isfinite(error):
        return None
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return math.erfc(abs(difference) / error / math.sqrt(2))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values times the number of those not smaller, kept in order (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, least = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, p_values[place] * (len(order) - rank)))
        adjusted[place] = least
    return adjusted
