"""Fixed evals made of arrays, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fettle.metrics import calibration_bins, expected_calibration_error, summarise_samples
from fettle.runs.records import FixedEval, SampleResults


def fixed_eval(
    step: int,
    nats_per_token: ArrayLike | None = None,
    right: ArrayLike | None = None,
    *,
    tokens: ArrayLike | None = None,
    pattern: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
) -> FixedEval:
    """An eval with per-sample results; what is not given is the same for every sample."""
    n = len(np.asarray(nats_per_token if nats_per_token is not None else right))
    nats = np.full(n, 0.5) if nats_per_token is None else np.asarray(nats_per_token, dtype=np.float64)
    hits = np.zeros(n, dtype=bool) if right is None else np.asarray(right, dtype=bool)
    lengths = np.full(n, 10) if tokens is None else np.asarray(tokens)
    empty: NDArray[np.float64] = np.zeros((n, 10))
    samples = SampleResults(
        sample_id=np.array([f"s{i}" for i in range(n)] if ids is None else ids, dtype=np.str_),
        pattern=np.array([""] * n if pattern is None else pattern, dtype=np.str_),
        cross_entropy_sum=nats * lengths,
        tokens=lengths,
        exact_match=hits,
        entropy_sum=nats * lengths,
        bin_tokens=empty,
        bin_confidence=empty,
        bin_correct=empty,
    )
    row = summarise_samples(samples)
    return FixedEval(
        step=step,
        cross_entropy=row["cross_entropy"],
        cross_entropy_low=row["cross_entropy_low"],
        cross_entropy_high=row["cross_entropy_high"],
        exact_match=row["exact_match"] if right is not None else None,
        exact_match_low=row["exact_match_low"] if right is not None else None,
        exact_match_high=row["exact_match_high"] if right is not None else None,
        entropy=row["entropy"],
        samples=n,
        tokens=int(lengths.sum()),
        per_sample=samples,
    )


def calibrated(step: int, gap: float, *, n: int = 300, tokens: int = 20, seed: int = 0) -> FixedEval:
    """An eval whose confidence exceeds its accuracy by `gap`."""
    rng = np.random.default_rng([seed, step])
    confidence = rng.uniform(0.5, 0.95, n * tokens)
    correct = rng.random(n * tokens) < confidence - gap
    offsets = np.arange(n + 1) * tokens
    token_bins, bin_confidence, bin_correct = calibration_bins(confidence, correct, offsets)
    base = fixed_eval(step, np.ones(n), tokens=np.full(n, tokens))
    assert base.per_sample is not None
    samples = replace(
        base.per_sample, bin_tokens=token_bins, bin_confidence=bin_confidence, bin_correct=bin_correct
    )
    ece = expected_calibration_error(confidence, correct)
    return replace(base, expected_calibration_error=ece, per_sample=samples)


def loss_only(losses: Sequence[float], every: int = 100) -> list[FixedEval]:
    """Evals of a foreign run: a loss at every hundredth step, and nothing else."""
    return [FixedEval(step=every * (i + 1), cross_entropy=loss) for i, loss in enumerate(losses)]


def hits(n: int, correct: int) -> NDArray[np.bool_]:
    """The first `correct` of n samples are right."""
    return np.arange(n) < correct
