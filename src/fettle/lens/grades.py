"""Advisory grades: does a lens single out its own concept among all lenses, more than chance would?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.lens.linear import LinearLenses
from fettle.lens.mixed import MixedLenses, Scoring, SomeNetworks, mixed, parts
from fettle.lens.problem import Floats, LensRows
from fettle.lens.random_direction import random_direction_p
from fettle.metrics import Discriminability, Grade, discriminability
from fettle.metrics.discriminability import FAMILY_ERROR

SCORES_AT_ONCE = 2**23


@dataclass(frozen=True, slots=True)
class LensGrade:
    """The grade of one lens, and what it rests on."""

    grade: Grade
    discriminability: Discriminability | None
    p_direction: float | None
    """Probability that a random direction separates the concept's texts as well; None where unmeasured."""

    @property
    def may_drive(self) -> bool:
        """Whether steering or alarms may follow this lens without being told to."""
        return self.grade in ("A", "B")


def grade_lenses(
    lenses: LinearLenses | MixedLenses,
    negative_mean: NDArray[Any],
    negative_deviation: NDArray[Any],
    rows: LensRows,
) -> list[LensGrade]:
    """Each lens by the rank of its score among those of all lenses, on the texts of its own concept.

    Scores are compared in deviations from the mean score of each lens's negatives in training, both [C].
    Lenses that exclude a text, as those of ancestors and descendants do, and lenses of which it is a positive
    too, do not compete for it.

    Ranks alone cannot tell a lens from a lucky direction: texts of one concept lie together, and any
    direction that happens to point at them ranks first for all of them. A and B therefore also ask that
    a random direction would not separate the concept as well in a pack of this size.
    """
    mean = negative_mean.astype(np.float64)
    deviation = np.maximum(negative_deviation, np.finfo(np.float32).tiny, dtype=np.float64)
    linear, networks = parts(lenses)
    scaled = replace(
        linear,
        weights=(linear.weights / deviation[:, None]).astype(np.float32),
        bias=((linear.bias - mean) / deviation).astype(np.float32),
    )
    if networks is not None:
        networks = _ScaledNetworks(networks, mean[networks.at], deviation[networks.at])
    below = _shares_below(mixed(scaled, networks), rows)
    chance = random_direction_p(mixed(scaled, networks), rows)
    grades: list[LensGrade] = []
    for c in range(rows.lenses):
        found = discriminability(below[c], rows.lenses, rows.groups[rows.positive[c]])
        grade: Grade = "U" if found is None else found.grade(rows.lenses)
        if grade in ("A", "B") and chance[c] > FAMILY_ERROR / rows.lenses:
            grade = "C"
        grades.append(LensGrade(grade, found, float(chance[c])))
    return grades


class _ScaledNetworks:
    """Logits in deviations from the mean of negatives."""

    def __init__(self, networks: SomeNetworks, mean_K: NDArray[Any], deviation_K: NDArray[Any]) -> None:
        self.at = networks.at
        self._networks, self._mean_K, self._deviation_K = networks, mean_K, deviation_K

    def scores(self, features_ND: NDArray[Any]) -> Floats:
        logits_NK = self._networks.scores(features_ND)
        return ((logits_NK - self._mean_K) / self._deviation_K).astype(np.float32)


def _shares_below(lenses: Scoring, rows: LensRows) -> list[NDArray[np.float64]]:
    """Of each concept's texts, the share of competing lenses that score below its own; ties half."""
    owned = _lenses_of(rows.positive, len(rows))
    silent = _lenses_of(rows.excluded, len(rows))
    found: list[list[float]] = [[] for _ in range(rows.lenses)]
    at_once = max(1, SCORES_AT_ONCE // max(rows.lenses, 1))
    for start in range(0, len(rows), at_once):
        scores = lenses.scores(rows.features[start : start + at_once])
        for row, scores_C in enumerate(scores, start):
            apart = np.concatenate([owned[row], silent[row]])
            for c in owned[row]:
                found[c].append(_share_below(scores_C, int(c), apart))
    return [np.array(shares) for shares in found]


def _share_below(scores_C: Floats, lens: int, apart: NDArray[np.int64]) -> float:
    own = scores_C[lens]
    below = (scores_C < own).sum() - (scores_C[apart] < own).sum()
    equal = (scores_C == own).sum() - (scores_C[apart] == own).sum()
    competing = scores_C.size - apart.size
    return float(below + equal / 2) / competing if competing else 0.5


def _lenses_of(labels: list[NDArray[np.int64]], rows: int) -> list[NDArray[np.int64]]:
    """Of each row, the lenses that name it."""
    lens = np.repeat(np.arange(len(labels)), [own.size for own in labels])
    row = np.concatenate(labels)
    order = np.argsort(row, kind="stable")
    return np.split(lens[order], np.searchsorted(row[order], np.arange(1, rows)))
