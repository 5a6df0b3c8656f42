"""Intervals: what a measured share or mean can be told apart from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval, in the unit of the number."""

    value: float
    low: float | None
    """Lower end; None where the data cannot say, as with one sample."""
    high: float | None
    standard_error: float | None = None


def wilson_interval(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float] | None:
    """Score interval of a share (Wilson 1927), in [0, 1]; None when n is 0.

    Unlike value ± 1.96 standard errors it stays inside [0, 1] and has width at 0 and n successes.
    Counts may be fractions: those of an effective sample size.
    """
    if n <= 0:
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At the ends the formula gives 0 and 1 but for rounding.
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == n else (centre + spread) / scale
    return low, high


def mean_estimate(values_N: NDArray[np.floating[Any]], confidence: float = 0.95) -> Estimate | None:
    """Mean with its interval by Student's t on N - 1; None without values, no interval for one."""
    n = values_N.size
    if n == 0:
        return None
    value = float(values_N.mean(dtype=np.float64))
    if n == 1:
        return Estimate(value, None, None)
    from scipy import special

    error = float(values_N.std(ddof=1, dtype=np.float64)) / math.sqrt(n)
    half = float(special.stdtrit(n - 1, (1 + confidence) / 2)) * error
    return Estimate(value, value - half, value + half, error)
