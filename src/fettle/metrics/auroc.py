"""Area under the ROC curve and its interval, where rows come in groups."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.metrics.intervals import Estimate, wilson_interval

Scores = NDArray[np.floating[Any]]
Groups = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]


def auroc(
    positive_P: Scores,
    negative_N: Scores,
    positive_groups_P: Groups | None = None,
    negative_groups_N: Groups | None = None,
) -> Estimate:
    """Area under the curve of hit rate over false positive rate, its variance over groups.

    Groups may hold rows of both classes (Obuchowski 1997).
    """
    p, n = positive_P.size, negative_N.size
    groups_P = np.arange(p) if positive_groups_P is None else positive_groups_P
    groups_N = np.arange(p, p + n) if negative_groups_N is None else negative_groups_N
    below_P, above_N = placements(positive_P, negative_N)
    area = float(below_P.mean())
    size = int(max(groups_P.max(), groups_N.max())) + 1
    sums_G = np.bincount(groups_P, (below_P - area) / p, size) + np.bincount(
        groups_N, (above_N - area) / n, size
    )
    # The fewer groups, which as a rule are the positives', limit what the variance can be known by.
    return _area(area, clustered_variance(sums_G, groups_P), min(p, n))


def contested_auroc(positive_P: Scores, contested_M: Scores, groups_P: Groups, negatives: int) -> Estimate:
    """The same from the M of all negatives that reach the lowest positive.

    Negatives count as independent, which costs little where they are many times the positives.
    """
    p, ascending_M = positive_P.size, np.sort(contested_M)
    below_P = (_below(ascending_M, positive_P) + (negatives - contested_M.size)) / negatives
    area = float(below_P.mean())
    # How many negatives have 0, 1 ... p positives at or below them.
    reached_P = np.searchsorted(ascending_M, np.sort(positive_P))
    counts = np.diff(reached_P, prepend=contested_M.size - negatives, append=contested_M.size)
    above = 1 - np.arange(p + 1) / p
    of_negatives = float(counts @ np.square(above - area)) / negatives**2
    of_positives = clustered_variance(np.bincount(groups_P, (below_P - area) / p), groups_P)
    return _area(area, of_positives + of_negatives, min(p, negatives))


def area_under_curve(positive_P: Scores, negative_N: Scores) -> float:
    """The AUROC alone: share of pairs in which the positive scores higher, ties half."""
    return float(_below_positives(positive_P, negative_N)[0].mean())


def placements(positive_P: Scores, negative_N: Scores) -> tuple[Floats, Floats]:
    """Share of negatives below each positive [P], and of positives above each negative [N]; ties half.

    Either mean is the AUROC (DeLong et al. 1988).
    """
    below_P, contested = _below_positives(positive_P, negative_N)
    above_N = np.ones(negative_N.size)
    above_N[contested] = 1 - _below(np.sort(positive_P), negative_N[contested]) / positive_P.size
    return below_P, above_N


def _below_positives(positive_P: Scores, negative_N: Scores) -> tuple[Floats, NDArray[np.intp]]:
    """Share of negatives below each positive, and which negatives lie below fewer than all positives."""
    # Most negatives lie below every positive and need no search.
    contested = np.flatnonzero(negative_N >= positive_P.min())
    below_P = _below(np.sort(negative_N[contested]), positive_P) + (negative_N.size - contested.size)
    return below_P / negative_N.size, contested


def _below(ascending: Scores, values: Scores) -> Floats:
    """How many of the sorted scores lie below each value, ties half."""
    left, right = np.searchsorted(ascending, values, "left"), np.searchsorted(ascending, values, "right")
    return (left + right) / 2


def _area(value: float, variance: float, rows: int) -> Estimate:
    return share(value, value * (1 - value) / variance if variance > 0 else rows)


def share(value: float, n: float) -> Estimate:
    """A share of so many rows, or of as many as they are worth."""
    low, high = wilson_interval(value * n, n) or (None, None)
    return Estimate(value, low, high)


def clustered_variance(sums: NDArray[Any], groups: Groups) -> float:
    """Variance of a mean from its sums over groups, corrected for how many groups there are."""
    count = np.count_nonzero(np.bincount(groups))
    return float(sums @ sums) * count / max(count - 1, 1)
