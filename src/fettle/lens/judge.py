"""How good lenses are: on groups they never saw while training, and on rows put aside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fettle.lens.linear import LinearLenses
from fettle.lens.mixed import MixedLenses, parts
from fettle.lens.problem import Floats, LensRows
from fettle.metrics import BinaryScores, Estimate, best_threshold, binary_scores
from fettle.metrics.auroc import contested_auroc
from fettle.metrics.binary import BALANCED, contested_threshold, f1_at

SCORES_AT_ONCE = 2**23
"""Scores held at a time: 32 MB, and as much again for what is made of them."""


class Fit(Protocol):
    """Trained lenses that know what they would say of rows they had not seen."""

    lenses: LinearLenses

    def fitted(self, first: int, last: int) -> Floats: ...
    def held_out(self, first: int, last: int, fitted: Floats | None = None) -> Floats: ...


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A lens on its own training texts, each scored as if its group had not been trained on."""

    threshold: float
    """Where F1 on those scores is highest."""
    f1: float
    """At the threshold, with as many positives as negatives."""
    train_f1: float
    """Of what the lens says of texts it was trained on, at the same threshold."""
    auroc: Estimate
    positives: int
    negative_mean: float
    """Of the scores of negatives."""
    negative_deviation: float

    @property
    def gap(self) -> float:
        """Training F1 minus held-out F1."""
        return self.train_f1 - self.f1


def negative_moments(held_out: Sequence[HeldOut]) -> tuple[Floats, Floats]:
    """Mean and deviation of the scores of each lens's negatives, [C] and [C]."""
    moments_2C = np.array([(h.negative_mean, h.negative_deviation) for h in held_out], dtype=np.float32).T
    return moments_2C[0], moments_2C[1]


def judge_held_out(fit: Fit, rows: LensRows) -> list[HeldOut]:
    """All lenses by their out-of-group predictions on the rows they were trained on."""
    results: list[HeldOut] = []
    for first, last in _batches(rows):
        fitted = fit.fitted(first, last)
        held_out = fit.held_out(first, last, fitted)
        results += [judge_lens(rows, first + k, fitted[k], held_out[k]) for k in range(last - first)]
    return results


def judge_rows(
    lenses: LinearLenses | MixedLenses | Callable[[int, int], Floats],
    rows: LensRows,
    thresholds: Sequence[float],
    *,
    prevalence: float,
) -> list[BinaryScores | None]:
    """All lenses on rows that they were not trained on; None for a lens without positives or negatives there.

    `prevalence` is the share of positives for which precision is stated. `lenses` may be a function that
    scores lenses first:last, [lenses, N].
    """
    score = _scorer(lenses, rows) if isinstance(lenses, (LinearLenses, MixedLenses)) else lenses
    results: list[BinaryScores | None] = []
    for first, last in _batches(rows):
        scores = score(first, last)
        for k in range(last - first):
            positive, negative = rows.positive[first + k], np.flatnonzero(rows.negative(first + k))
            judged = rows.judged[first + k] if rows.judged is not None else None
            results.append(
                binary_scores(
                    scores[k, positive],
                    scores[k, negative],
                    thresholds[first + k],
                    prevalence=prevalence,
                    positive_groups_P=rows.groups[positive],
                    negative_groups_N=rows.groups[negative],
                    judged_N=None if judged is None else np.isin(negative, judged, assume_unique=True),
                )
            )
    return results


def judge_lens(rows: LensRows, lens: int, fitted_N: Floats, held_out_N: Floats) -> HeldOut:
    """One lens by what it says of its training rows, and what it would say had their groups been left out.

    Looks at most rows only once: those below every positive are counted, not ranked.
    """
    positive, excluded = rows.positive[lens], rows.excluded[lens]
    apart = np.concatenate([positive, excluded])
    shown_P = held_out_N[positive]
    reaching_N = held_out_N >= shown_P.min()
    reaching_N[apart] = False
    contested = np.flatnonzero(reaching_N)
    negatives = len(rows) - apart.size
    mean = float(held_out_N.sum() - held_out_N[apart].sum()) / negatives
    square = float(held_out_N @ held_out_N - held_out_N[apart] @ held_out_N[apart]) / negatives
    if rows.judged is None or rows.judged[lens].size == 0:
        at, f1 = contested_threshold(shown_P, held_out_N[contested], negatives)
        threshold = (at + _next_lower(held_out_N, np.append(shown_P, held_out_N[contested]), at)) / 2
        false = (np.count_nonzero(fitted_N >= threshold) - (fitted_N[apart] >= threshold).sum()) / negatives
    else:
        judged = rows.judged[lens]
        threshold, f1 = best_threshold(shown_P, held_out_N[judged])
        false = (fitted_N[judged] >= threshold).mean()
    hit = (fitted_N[positive] >= threshold).mean()
    return HeldOut(
        threshold=threshold,
        f1=f1,
        train_f1=float(f1_at(float(hit), float(false), BALANCED)),
        auroc=contested_auroc(shown_P, held_out_N[contested], rows.groups[positive], negatives),
        positives=positive.size,
        negative_mean=mean,
        negative_deviation=max(square - mean * mean, 0.0) ** 0.5,
    )


def _next_lower(values_N: Floats, highest_M: Floats, at: float) -> float:
    """The next score below one of the highest, which are looked at first."""
    lower = highest_M[highest_M < at]
    lower = lower if lower.size else values_N[values_N < at]
    return float(lower.max()) if lower.size else at


def _batches(rows: LensRows) -> Iterator[tuple[int, int]]:
    at_once = max(1, SCORES_AT_ONCE // max(len(rows), 1))
    for first in range(0, rows.lenses, at_once):
        yield first, min(rows.lenses, first + at_once)


def _scorer(lenses: LinearLenses | MixedLenses, rows: LensRows) -> Callable[[int, int], Floats]:
    linear, networks = parts(lenses)
    centred: Floats = rows.features.astype(np.float32)
    centred -= linear.mean
    own_NK = None if networks is None else networks.scores(rows.features)

    def score(first: int, last: int) -> Floats:
        scores = linear.weights[first:last] @ centred.T + linear.bias[first:last, None]
        if networks is not None and own_NK is not None:
            here = (networks.at >= first) & (networks.at < last)
            scores[networks.at[here] - first] = own_NK.T[here]
        return scores

    return score
