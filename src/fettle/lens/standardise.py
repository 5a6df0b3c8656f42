"""Standardised features, with a deviation that 16-bit rounding cannot undercut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

ROUNDING = 2.0**-8
"""Half a unit in the last place of bfloat16, relative: what a value may move by when it is stored so."""
ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Standardisation:
    """Mean and deviation of each feature, [D]."""

    mean: Floats
    deviation: Floats

    def apply(self, features_ND: NDArray[Any]) -> Floats:
        """(x - mean) / deviation in float32, [N, D].

        The mean is taken off first: with a massive dimension w·x - w·mean would cancel.
        """
        standard = features_ND.astype(np.float32)
        standard -= self.mean
        standard /= self.deviation
        return standard


def standardisation(features_ND: NDArray[Any]) -> Standardisation:
    """Mean and sqrt(sd² + (2⁻⁸·mean)²) of each feature, summed in float64.

    A dimension with a large mean and a small deviation is mostly rounding noise in bfloat16; without the
    floor a lens would lean on it and lose its threshold in another dtype. A constant feature has
    deviation 1.
    """
    n = len(features_ND)
    blocks = [features_ND[start : start + ROWS_AT_ONCE] for start in range(0, n, ROWS_AT_ONCE)]
    mean = sum((block.sum(0, dtype=np.float64) for block in blocks), np.zeros(1)) / n
    squares = sum((np.square(block - mean).sum(0) for block in blocks), np.zeros(1)) / n
    deviation = np.sqrt(squares + np.square(ROUNDING * mean))
    deviation[deviation == 0] = 1.0
    return Standardisation(mean.astype(np.float32), deviation.astype(np.float32))
