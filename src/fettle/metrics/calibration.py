"""Calibration of token predictions: bins of confidence, expected calibration error, Brier score."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 10


def _bin_of(confidence_T: NDArray[Any], bins: int) -> NDArray[np.int64]:
    """Index of the (lower, upper] bin of each confidence, [T]; 0 belongs to the first bin."""
    confidence_T = np.asarray(confidence_T)
    if not np.issubdtype(confidence_T.dtype, np.floating):
        confidence_T = confidence_T.astype(np.float64)
    # Edges in the dtype of the values: float32(0.1) lies above float64(0.1) and would change bins.
    edges = (np.arange(1, bins) / bins).astype(confidence_T.dtype)
    return np.searchsorted(edges, confidence_T, side="left").astype(np.int64)


def calibration_bins(
    confidence_T: NDArray[Any], correct_T: NDArray[np.bool_], offsets: NDArray[np.int64], bins: int = BINS
) -> tuple[Floats, Floats, Floats]:
    """Per sample and bin: tokens, summed confidence, correct tokens, each [N, bins].

    `offsets` is [N + 1]; the tokens of sample i are offsets[i]:offsets[i + 1]. The sums of any
    subset of samples give its calibration, so that tokens need not be kept.
    """
    lengths_N = np.diff(np.asarray(offsets, dtype=np.int64))
    n = int(lengths_N.size)
    cell_T = np.repeat(np.arange(n), lengths_N) * bins + _bin_of(confidence_T, bins)

    def summed(weight_T: NDArray[Any] | None) -> Floats:
        return np.bincount(cell_T, weights=weight_T, minlength=n * bins).reshape(n, bins).astype(np.float64)

    return (
        summed(None),
        summed(np.asarray(confidence_T, dtype=np.float64)),
        summed(np.asarray(correct_T, dtype=np.float64)),
    )


def expected_calibration_error(
    confidence_N: NDArray[Any], correct_N: NDArray[np.bool_], bins: int = BINS
) -> float | None:
    """Mean gap between confidence and accuracy over equal-width bins, weighted by tokens.

    Bins are (lower, upper], the first closed at 0 and the last at 1; empty bins count for nothing
    (Guo et al. 2017, eq. 3). In [0, 1]. None when there are no tokens: no score is not a zero score.
    """
    offsets = np.array([0, np.asarray(confidence_N).size], dtype=np.int64)
    return expected_calibration_error_from_bins(*calibration_bins(confidence_N, correct_N, offsets, bins))


def expected_calibration_error_from_bins(
    bin_tokens: Floats, bin_confidence: Floats, bin_correct: Floats
) -> float | None:
    """The same from sums per bin, [bins] or [N, bins] (summed over samples here)."""
    bins = bin_tokens.shape[-1]
    tokens_B = bin_tokens.reshape(-1, bins).sum(0)
    total = float(tokens_B.sum())
    if total <= 0:
        return None
    gap_B = bin_correct.reshape(-1, bins).sum(0) - bin_confidence.reshape(-1, bins).sum(0)
    # n_b · |accuracy - confidence| = |correct - Σ confidence|: no division by an empty bin.
    return float(np.abs(gap_B).sum() / total)


def brier_score(confidence_N: NDArray[Any], correct_N: NDArray[np.bool_]) -> float | None:
    """Mean squared gap between confidence and being right (Brier 1950), in [0, 1]; None without tokens."""
    confidence_N = np.asarray(confidence_N, dtype=np.float64)
    if confidence_N.size == 0:
        return None
    return float(np.mean((confidence_N - np.asarray(correct_N, dtype=np.float64)) ** 2))
