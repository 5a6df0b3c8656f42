"""Folds of whole groups, for what has no closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fettle.lens.problem import Ints, LensRows

FOLDS = 5


def group_folds(rows: LensRows, folds: int = FOLDS) -> Ints:
    """The fold of each row, [N]: whole groups, those of one concept spread over all folds."""
    owner_N = np.full(len(rows), rows.lenses)
    for lens in reversed(range(rows.lenses)):
        owner_N[rows.positive[lens]] = lens
    _, first, inverse = np.unique(rows.groups, return_index=True, return_inverse=True)
    dealt = np.empty(first.size, dtype=np.int64)
    dealt[np.argsort(owner_N[first], kind="stable")] = np.arange(first.size) % folds
    return dealt[inverse]


def keep(rows: LensRows, kept_N: NDArray[np.bool_]) -> LensRows:
    """The rows that are kept, with their labels."""
    place_N = np.cumsum(kept_N) - 1

    def placed(labels: list[Ints]) -> list[Ints]:
        return [place_N[part[kept_N[part]]] for part in labels]

    return replace(
        rows,
        features=rows.features[kept_N],
        positive=placed(rows.positive),
        excluded=placed(rows.excluded),
        judged=None if rows.judged is None else placed(rows.judged),
        groups=rows.groups[kept_N],
        index=rows.index[kept_N],
    )
