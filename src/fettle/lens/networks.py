"""Which lenses are better off as networks, and what a pack keeps of those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.lens.folds import FOLDS
from fettle.lens.judge import Fit, HeldOut, judge_lens
from fettle.lens.mlp import BETTER_BY, NETWORKS_AT_ONCE, Comparison, MlpLenses, compare_mlp, fit_mlp
from fettle.lens.problem import Floats, Ints, LensRows

FEWEST_GROUPS = 2 * FOLDS
"""Groups of positives from which folds can compare anything."""
BENT_ON = 256
"""Texts over which the direction of a network is averaged."""


@dataclass(frozen=True, slots=True, eq=False)
class Networks:
    """K networks in the place of linear lenses, with what steering needs of each."""

    at: Ints
    """Lens of each, rising, [K]."""
    mlp: MlpLenses
    directions: Floats
    """Unit vectors along which the logits rise fastest, in the mean over texts, [K, D]."""
    projections: Floats
    """Mean and deviation of the negatives along them, from the mean of all texts, [K, 2]."""

    def scores(self, features_ND: NDArray[Any]) -> Floats:
        """Logits, [N, K]."""
        return self.mlp.scores(features_ND)


def compare_networks(
    rows: LensRows, linear: Fit, held_out: Sequence[HeldOut], *, seed: int = 0
) -> list[Comparison]:
    """Networks beside all linear lenses that could be beaten, by groups that neither saw.

    Those above an AUROC of 0.99, or with texts of too few groups, are not tried.
    """
    tried = [
        c
        for c, result in enumerate(held_out)
        if result.auroc.value <= 1 - BETTER_BY
        and np.unique(rows.groups[rows.positive[c]]).size >= FEWEST_GROUPS
    ]
    found: list[Comparison] = []
    for start in range(0, len(tried), NETWORKS_AT_ONCE):
        found += compare_mlp(rows, linear, tried[start : start + NETWORKS_AT_ONCE], seed=seed)
    return found


def fit_networks(
    rows: LensRows, compared: Sequence[Comparison], *, seed: int = 0
) -> tuple[Networks, list[HeldOut]]:
    """Networks of these lenses, which rise, and how good each is on groups it did not see."""
    lenses = [comparison.lens for comparison in compared]
    mlp = fit_mlp(rows, lenses, seed=seed)
    fitted_NK = mlp.scores(rows.features)
    held_out = [
        judge_lens(rows, comparison.lens, fitted_NK[:, k], comparison.held_out)
        for k, comparison in enumerate(compared)
    ]
    chosen = np.unique(np.linspace(0, len(rows) - 1, BENT_ON).astype(np.int64))
    directions_KD = mlp.directions(rows.features[chosen])
    lengths_K = np.linalg.norm(directions_KD, axis=1, keepdims=True)
    directions_KD = directions_KD / np.maximum(lengths_K, np.finfo(np.float32).tiny)
    along_NK = (rows.features - mlp.standard.mean) @ directions_KD.T
    negatives = [along_NK[rows.negative(lens), k] for k, lens in enumerate(lenses)]
    projections_K2 = np.array([(part.mean(), part.std()) for part in negatives], dtype=np.float32)
    return Networks(np.array(lenses, dtype=np.int64), mlp, directions_KD, projections_K2), held_out
