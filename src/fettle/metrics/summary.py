"""The numbers of one fixed eval, from its per-sample results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fettle.metrics.calibration import expected_calibration_error_from_bins
from fettle.metrics.cross_entropy import perplexity, token_cross_entropy
from fettle.metrics.intervals import wilson_interval
from fettle.metrics.patterns import pattern_matrix
from fettle.runs.records import SampleResults


def summarise_samples(results: SampleResults) -> dict[str, float | int | None]:
    """Fields of a `fixed_eval` record: what was not measured is None.

    Cross-entropy, surprisal and entropy are nats per completion token, weighted by tokens; exact
    match is a share of samples with its Wilson interval. Mean surprisal equals cross-entropy by
    definition; entropy needs no label, and cross_entropy - entropy > 0 means over-confident.
    """
    samples, right_N = int(results.tokens.size), results.exact_match
    tokens = int(results.tokens.sum())
    cross_entropy = token_cross_entropy(results.cross_entropy_sum, results.tokens)
    correct = None if right_N is None else int(np.count_nonzero(right_N))
    interval = None if correct is None else wilson_interval(correct, samples)
    value = cross_entropy.value if cross_entropy else None
    entropy_sum = results.entropy_sum
    return {
        "cross_entropy": value,
        "cross_entropy_low": cross_entropy.low if cross_entropy else None,
        "cross_entropy_high": cross_entropy.high if cross_entropy else None,
        "exact_match": correct / samples if samples and correct is not None else None,
        "exact_match_low": interval[0] if interval else None,
        "exact_match_high": interval[1] if interval else None,
        "expected_calibration_error": expected_calibration_error_from_bins(
            results.bin_tokens, results.bin_confidence, results.bin_correct
        ),
        "entropy": float(entropy_sum.sum()) / tokens if tokens and entropy_sum is not None else None,
        "surprisal": value,
        "perplexity": perplexity(value),
        "samples": samples,
        "tokens": tokens,
    }


def summarise_patterns(results: SampleResults, length_bins: Sequence[int]) -> list[dict[str, Any]]:
    """The `patterns` of a `fixed_eval` record: the seen cells; none where exact match was not measured."""
    if results.exact_match is None:
        return []
    matrix = pattern_matrix(
        results.pattern, results.tokens, results.exact_match, results.cross_entropy_sum, length_bins
    )
    return [cell.to_json() for cell in matrix.cells]
