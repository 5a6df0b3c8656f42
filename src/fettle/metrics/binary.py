"""One detector on positives and negatives: threshold, F1, AUROC and more, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.metrics.auroc import auroc, clustered_variance, placements, share
from fettle.metrics.intervals import Estimate

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
    hits = share(float((positive_P >= threshold).mean()), effective_p)
    found_N = negative_N >= threshold
    false = share(float(found_N.mean()), effective_n)
    judged = false
    if judged_N is not None and judged_N.any():
        judged = share(float(found_N[judged_N].mean()), effective_n * float(judged_N.mean()))
    return BinaryScores(
        f1=_of_rates(lambda t, f: f1_at(t, f, f1_prevalence), hits, judged) or Estimate(0.0, 0.0, None),
        auroc=auroc(positive_P, negative_N, groups_P, groups_N),
        average_precision=share(average_precision(positive_P, negative_N), effective_p),
        recall_at_1_percent=_recall(positive_P, negative_N, effective_p, effective_n),
        precision=_of_rates(lambda t, f: precision_at(t, f, prevalence), hits, false),
        positives=p,
        negatives=n,
    )


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


def _effective(placements_N: Floats, groups_N: Groups) -> float:
    """Rows over the design effect of their placements, which is 1 where nothing varies."""
    centred_N = placements_N - placements_N.mean()
    rows = centred_N.size
    independent = float(centred_N @ centred_N) / max(rows - 1, 1) / rows
    if independent == 0:
        return rows
    clustered = clustered_variance(np.bincount(groups_N, centred_N) / rows, groups_N)
    return rows / max(1.0, clustered / independent)


def _recall(
    positive_P: Scores, negative_N: Scores, effective_p: float, effective_n: float
) -> Estimate | None:
    """Recall above all but 1 % of the negatives; where that share of them ends is uncertain too."""
    if int(FALSE_POSITIVE_RATE * negative_N.size) == 0:
        return None
    allowed = share(FALSE_POSITIVE_RATE, effective_n)
    most = min(int((allowed.high or 1.0) * negative_N.size), negative_N.size - 1)
    highest_N = -np.sort(-np.partition(negative_N, negative_N.size - most - 1)[negative_N.size - most - 1 :])

    def at(false_rate: float | None) -> Estimate:
        place = min(int((false_rate or 0.0) * negative_N.size), most)
        return share(float((positive_P > highest_N[place]).mean()), effective_p)

    found = at(FALSE_POSITIVE_RATE)
    return _spread(found.value, [found.low, at(allowed.low).value], [found.high, at(allowed.high).value])


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
