"""One detector on positives and negatives: threshold, F1, AUROC and more, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.metrics.intervals import Estimate, wilson_interval

Scores = NDArray[np.floating[Any]]
Groups = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]

BALANCED = 0.5
FALSE_POSITIVE_RATE = 0.01


@dataclass(frozen=True, slots=True)
class BinaryScores:
    """How well scores tell positives from negatives. None is what the rows cannot tell."""

    f1: Estimate
    """At the threshold, with positives and negatives in the shares of `f1_prevalence`."""
    auroc: Estimate
    average_precision: Estimate
    """At the prevalence of the rows."""
    recall_at_1_percent: Estimate | None
    """Recall where at most 1 % of the negatives score as high; None below 100 negatives."""
    precision: Estimate | None
    """At the threshold and the stated prevalence; None where no row reaches the threshold."""
    positives: int
    negatives: int


def binary_scores(
    positive_P: Scores,
    negative_N: Scores,
    threshold: float,
    *,
    prevalence: float,
    f1_prevalence: float = BALANCED,
    positive_groups_P: Groups | None = None,
    negative_groups_N: Groups | None = None,
    judged_N: NDArray[np.bool_] | None = None,
) -> BinaryScores | None:
    """All numbers of one detector, higher scores for positives; None where a class has no row.

    Rows of a group resemble each other (one template, one lexeme), so the intervals are Wilson's at an
    effective sample size, n over the design effect of surveys (Kish 1965). Groups are small numbers from
    0 on; without them each row stands for itself. F1 takes its false positives from the negatives that
    are judged, all by default.
    """
    p, n = positive_P.size, negative_N.size
    if p == 0 or n == 0:
        return None
    groups_P = np.arange(p) if positive_groups_P is None else positive_groups_P
    groups_N = np.arange(p, p + n) if negative_groups_N is None else negative_groups_N
    below_P, above_N = placements(positive_P, negative_N)
    effective_p, effective_n = _effective(below_P, groups_P), _effective(above_N, groups_N)
    hits = _share(float((positive_P >= threshold).mean()), effective_p)
    found_N = negative_N >= threshold
    false = _share(float(found_N.mean()), effective_n)
    judged = false
    if judged_N is not None and judged_N.any():
        judged = _share(float(found_N[judged_N].mean()), effective_n * float(judged_N.mean()))
    return BinaryScores(
        f1=_of_rates(lambda t, f: f1_at(t, f, f1_prevalence), hits, judged) or Estimate(0.0, 0.0, None),
        auroc=auroc(positive_P, negative_N, groups_P, groups_N),
        average_precision=_share(average_precision(positive_P, negative_N), effective_p),
        recall_at_1_percent=_recall(positive_P, negative_N, effective_p, effective_n),
        precision=_of_rates(lambda t, f: precision_at(t, f, prevalence), hits, false),
        positives=p,
        negatives=n,
    )


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
    return _area(area, _clustered_variance(sums_G, groups_P), min(p, n))


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
    of_positives = _clustered_variance(np.bincount(groups_P, (below_P - area) / p), groups_P)
    return _area(area, of_positives + of_negatives, min(p, negatives))


def _area(value: float, variance: float, rows: int) -> Estimate:
    return _share(value, value * (1 - value) / variance if variance > 0 else rows)


def best_threshold(
    positive_P: Scores, negative_N: Scores, prevalence: float = BALANCED
) -> tuple[float, float]:
    """The threshold of the highest F1 at a prevalence, and that F1; rows at the threshold are found.

    F1 is highest with the threshold just at some positive; it is put halfway to the next lower score.
    """
    contested = negative_N[negative_N >= positive_P.min()]
    at, f1 = contested_threshold(positive_P, contested, negative_N.size, prevalence)
    lower = [part[part < at].max(initial=-np.inf) for part in (positive_P, negative_N)]
    next_lower = float(max(lower))
    return (at if next_lower == -np.inf else (at + next_lower) / 2), f1


def contested_threshold(
    positive_P: Scores, contested_M: Scores, negatives: int, prevalence: float = BALANCED
) -> tuple[float, float]:
    """The positive at which F1 is highest, and that F1, from the negatives that reach the lowest positive."""
    descending_P = -np.sort(-positive_P)
    ascending_M = np.sort(contested_M)
    hit_P = np.arange(1, descending_P.size + 1) / descending_P.size
    false_P = (ascending_M.size - np.searchsorted(ascending_M, descending_P, side="left")) / negatives
    f1_P = f1_at(hit_P, false_P, prevalence)
    # Of equal positives the last counts them all.
    best = int(f1_P.size - 1 - np.argmax(f1_P[::-1]))
    return float(descending_P[best]), float(f1_P[best])


def f1_at(hit_rate: Any, false_rate: Any, prevalence: float) -> Any:
    """2π·T / (π·T + (1 - π)·F + π): F1 of recall T and false positive rate F at prevalence π."""
    found = prevalence * hit_rate
    return 2 * found / (found + (1 - prevalence) * false_rate + prevalence)


def precision_at(hit_rate: float, false_rate: float, prevalence: float) -> float | None:
    """π·T / (π·T + (1 - π)·F); None where nothing is found at all."""
    found = prevalence * hit_rate
    total = found + (1 - prevalence) * false_rate
    return found / total if total > 0 else None


def average_precision(positive_P: Scores, negative_N: Scores) -> float:
    """Mean over positives of the precision at their score, ties together; area of the step-wise curve."""
    ascending_P = np.sort(positive_P)
    contested = np.sort(negative_N[negative_N >= ascending_P[0]])
    true_P = ascending_P.size - np.searchsorted(ascending_P, ascending_P, side="left")
    false_P = contested.size - np.searchsorted(contested, ascending_P, side="left")
    return float(np.mean(true_P / (true_P + false_P)))


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


def _effective(placements_N: Floats, groups_N: Groups) -> float:
    """Rows over the design effect of their placements, which is 1 where nothing varies."""
    centred_N = placements_N - placements_N.mean()
    rows = centred_N.size
    independent = float(centred_N @ centred_N) / max(rows - 1, 1) / rows
    if independent == 0:
        return rows
    clustered = _clustered_variance(np.bincount(groups_N, centred_N) / rows, groups_N)
    return rows / max(1.0, clustered / independent)


def _recall(
    positive_P: Scores, negative_N: Scores, effective_p: float, effective_n: float
) -> Estimate | None:
    """Recall above all but 1 % of the negatives; where that share of them ends is uncertain too."""
    if int(FALSE_POSITIVE_RATE * negative_N.size) == 0:
        return None
    allowed = _share(FALSE_POSITIVE_RATE, effective_n)
    most = min(int((allowed.high or 1.0) * negative_N.size), negative_N.size - 1)
    highest_N = -np.sort(-np.partition(negative_N, negative_N.size - most - 1)[negative_N.size - most - 1 :])

    def at(false_rate: float | None) -> Estimate:
        place = min(int((false_rate or 0.0) * negative_N.size), most)
        return _share(float((positive_P > highest_N[place]).mean()), effective_p)

    found = at(FALSE_POSITIVE_RATE)
    return _spread(found.value, [found.low, at(allowed.low).value], [found.high, at(allowed.high).value])


def _share(value: float, n: float) -> Estimate:
    low, high = wilson_interval(value * n, n) or (None, None)
    return Estimate(value, low, high)


def _of_rates(of: Callable[[float, float], float | None], hits: Estimate, false: Estimate) -> Estimate | None:
    """A number that rises with the hit rate and falls with the false rate, and its interval."""
    value = of(hits.value, false.value)
    if value is None:
        return None
    low = [of(hits.low or 0.0, false.value), of(hits.value, false.high or 0.0)]
    high = [of(hits.high or 0.0, false.value), of(hits.value, false.low or 0.0)]
    return _spread(value, low, high)


def _spread(value: float, low: list[float | None], high: list[float | None]) -> Estimate:
    """Interval from where each uncertain part alone would take the value: distances add up as squares.

    Method of variance estimates recovery (Zou & Donner 2008).
    """
    down, up = (math.hypot(*(value - end for end in ends if end is not None)) for ends in (low, high))
    return Estimate(value, max(0.0, value - down), min(1.0, value + up))


def _clustered_variance(sums: NDArray[Any], groups: Groups) -> float:
    """Variance of a mean from its sums over groups, corrected for how many groups there are."""
    count = np.count_nonzero(np.bincount(groups))
    return float(sums @ sums) * count / max(count - 1, 1)
