"""Cross-entropy per completion token, its interval over samples, and perplexity."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fettle.metrics.intervals import Estimate


def token_cross_entropy(
    cross_entropy_sum_N: NDArray[np.float64], tokens_N: NDArray[np.int64], confidence: float = 0.95
) -> Estimate | None:
    """Nats per token of a set of samples: Σ sums / Σ tokens, with an interval over samples.

    Tokens of one sample stand and fall together, so the interval comes from the spread between
    samples (linearised variance of a ratio, Cochran 1977, eq. 6.13) with Student's t on N - 1.
    None when there are no tokens; no interval below two samples.
    """
    sums_N = np.asarray(cross_entropy_sum_N, dtype=np.float64)
    weights_N = np.asarray(tokens_N, dtype=np.float64)
    total = float(weights_N.sum())
    if total <= 0:
        return None
    value = float(sums_N.sum()) / total
    n = int(np.count_nonzero(weights_N))
    if n < 2 or not math.isfinite(value):
        return Estimate(value, None, None)
    from scipy import special

    residual_N = sums_N - value * weights_N
    standard_error = math.sqrt(n / (n - 1) * float(residual_N @ residual_N)) / total
    half = float(special.stdtrit(n - 1, (1 + confidence) / 2)) * standard_error
    # A cross-entropy below zero does not exist, an interval that reaches there says nothing more.
    return Estimate(value, max(0.0, value - half), value + half, standard_error)


def perplexity(cross_entropy: float | None) -> float | None:
    """exp(nats per token); None when it was not measured, inf where exp would overflow."""
    if cross_entropy is None:
        return None
    try:
        return math.exp(cross_entropy)
    except OverflowError:
        return math.inf
