"""Whether calibration drifted away from its best, beyond what resampling the samples explains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.runs.records import FixedEval, SampleResults

DRIFT_RATIO = 1.2
"""A rise of ECE by a fifth over its best is worth telling."""
RESAMPLES = 500
"""Only their spread is used, which so many give to 3 %."""
ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class CalibrationDrift:
    """A rise of the expected calibration error since the eval where it was lowest."""

    best_step: int
    best: float
    step: int
    last: float
    interval: tuple[float, float]
    """Of last - best, by bootstrap over samples; simultaneous over the evals before the last,
    because the best was picked after the fact."""

    @property
    def text(self) -> str:
        """`ECE 0.12 at step 900, 0.05 at its best (step 300)`."""
        return f"ECE {self.last:.3f} at step {self.step}, {self.best:.3f} at its best (step {self.best_step})"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "interval": list(self.interval), "text": self.text}


def calibration_drift(
    evals: Sequence[FixedEval], *, ratio: float = DRIFT_RATIO, seed: int = 0
) -> CalibrationDrift | None:
    """The drift of the last eval against the best so far; None where it is small, noise, or unmeasured.

    Against the best and not the eval before, so that a slow drift is seen too.
    """
    measured = [e for e in sorted(evals, key=lambda e: e.step) if _binned(e)]
    if len(measured) < 2:
        return None
    last = measured[-1]
    best = min(measured[:-1], key=lambda e: e.expected_calibration_error or 0.0)
    low, high = best.expected_calibration_error, last.expected_calibration_error
    if low is None or high is None or high <= ratio * low:
        return None
    if best.per_sample is None or last.per_sample is None:
        return None
    interval = _difference(last.per_sample, best.per_sample, ALPHA / (len(measured) - 1), seed)
    if interval[0] <= 0:
        return None
    return CalibrationDrift(best.step, low, last.step, high, interval)


def _binned(e: FixedEval) -> bool:
    return (
        e.expected_calibration_error is not None and e.per_sample is not None and e.per_sample.tokens.size > 0
    )


def _difference(later: SampleResults, earlier: SampleResults, alpha: float, seed: int) -> tuple[float, float]:
    """Interval of ECE(later) - ECE(earlier), resampling samples, together where they are the same ones."""
    draws = np.random.default_rng(seed)
    n, m = later.tokens.size, earlier.tokens.size
    paired = np.array_equal(later.sample_id, earlier.sample_id)
    counts_RN = draws.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
    counts_RM = (
        counts_RN if paired else draws.multinomial(m, np.full(m, 1 / m), size=RESAMPLES).astype(np.float64)
    )
    difference_R = _errors(later, counts_RN) - _errors(earlier, counts_RM)
    observed = float(_errors(later, np.ones((1, n)))[0] - _errors(earlier, np.ones((1, m)))[0])
    error = float(difference_R.std(ddof=1))
    # The plug-in ECE of a resample is biased upwards, so its spread is used and not its quantiles.
    z = _normal_quantile(1 - alpha / 2)
    return observed - z * error, observed + z * error


def _errors(table: SampleResults, counts_RN: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected calibration error of each resample, [R]: Σ_b |Σ confidence - Σ correct| / tokens."""
    gap_RB = counts_RN @ (table.bin_confidence - table.bin_correct)
    return np.abs(gap_RB).sum(1) / (counts_RN @ table.bin_tokens.sum(1))


def _normal_quantile(p: float) -> float:
    from scipy import special

    return float(special.ndtri(p)) if 0 < p < 1 else math.inf
