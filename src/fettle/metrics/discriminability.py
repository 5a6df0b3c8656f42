"""How far a detector singles out its own concept among all detectors, and the grade that follows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fettle.metrics.intervals import wilson_interval

Grade = Literal["A", "B", "C", "U"]

FEWEST_TEXTS = 20
A_FROM, B_FROM = 0.5, 0.2
FAMILY_ERROR = 0.01
"""Share of packs in which any of their random lenses may be graded above C."""


@dataclass(frozen=True, slots=True)
class Discriminability:
    """Chance-corrected rank of the right lens: 0 is random, 1 always first, -1 always last."""

    value: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    texts: int
    p_random: float
    """Probability that a lens of random scores does as well."""

    def grade(self, lenses: int) -> Grade:
        """A from a lower end of 0.5, B from 0.2, C below; U with fewer than 20 texts.

        A and B also ask that chance would not do as well in a pack of so many lenses (Bonferroni).
        """
        if self.texts < FEWEST_TEXTS:
            return "U"
        if self.low < B_FROM or self.p_random > FAMILY_ERROR / lenses:
            return "C"
        return "A" if self.low >= A_FROM else "B"


def discriminability(
    below_T: NDArray[np.floating[Any]], lenses: int, groups_T: NDArray[np.integer[Any]] | None = None
) -> Discriminability | None:
    """From the share of the other lenses that lie below the right one, for each text of a concept, [T].

    value = 2·mean - 1. A text's rank is a bounded number, of which nothing spreads wider than a coin; the
    interval is therefore Wilson's for T coins, or for fewer where the texts of a group go together. None
    without texts or other lenses.
    """
    from scipy import special

    texts = below_T.size
    if texts == 0 or lenses < 2:
        return None
    mean = float(below_T.mean())
    groups_T = np.arange(texts) if groups_T is None else groups_T
    effective = texts / _design_effect(below_T - mean, groups_T)
    low, high = wilson_interval(mean * effective, effective) or (0.0, 1.0)
    # Variance of a rank, uniform on `lenses` places, as a share of the others.
    chance = math.sqrt((lenses + 1) / (12 * (lenses - 1)) / effective)
    return Discriminability(
        value=2 * mean - 1,
        low=2 * low - 1,
        high=2 * high - 1,
        texts=texts,
        p_random=float(special.ndtr((0.5 - mean) / chance)),
    )


def rank_v1(scores_N: NDArray[np.floating[Any]], target: int) -> tuple[float, Grade]:
    """The score and grade of the earlier system, for comparison only.

    Over N definitions: target = 1 - (r - 1)/(N - 1) for the rank r of the own definition, specificity =
    (mean rank of the others - 1)/(N - 1), score their mean; A from 0.5, B from 0.2, else C. Ranks add up
    to a constant, so that specificity says nothing of its own: the score depends on r alone, runs from
    1/2 · (1/2 - 1/(2(N - 1))) to 3/4 + 1/(4(N - 1)), is about 0.5 (an A) for a random lens, and from 6
    definitions on never low enough for a C.
    """
    scores = np.asarray(scores_N, dtype=np.float64)
    n = scores.size
    rank = 1 + int((scores > scores[target]).sum())
    others = (n * (n + 1) / 2 - rank) / (n - 1)
    score = ((1 - (rank - 1) / (n - 1)) + (others - 1) / (n - 1)) / 2
    return score, "A" if score >= A_FROM else "B" if score >= B_FROM else "C"


def _design_effect(centred_T: NDArray[Any], groups_T: NDArray[np.integer[Any]]) -> float:
    independent = float(centred_T @ centred_T)
    sums = np.bincount(np.unique(groups_T, return_inverse=True)[1], centred_T)
    return max(1.0, float(sums @ sums) / independent) if independent > 0 else 1.0
