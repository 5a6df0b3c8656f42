"""Linear lenses of one layer, read together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.lens.standardise import Standardisation

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class LinearLenses:
    """Scores w·(x - mean) + bias: C lenses over D features."""

    mean: Floats
    """[D]."""
    weights: Floats
    """In units of the features themselves, [C, D]."""
    bias: Floats
    """[C]."""

    def scores(self, features_ND: NDArray[Any]) -> Floats:
        """[N, C], in float32 whatever the features are; the mean is taken off before the product."""
        centred_ND: Floats = features_ND.astype(np.float32)
        centred_ND -= self.mean
        return centred_ND @ self.weights.T + self.bias


def from_standard(standard: Standardisation, weights_CD: NDArray[Any], bias_C: NDArray[Any]) -> LinearLenses:
    """Lenses over features from weights over standardised features."""
    weights_CD = (weights_CD / standard.deviation).astype(np.float32)
    return LinearLenses(standard.mean, weights_CD, bias_C.astype(np.float32))
