"""Fields of a fixed eval from per-sample results, against arithmetic over the tokens."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from fettle.metrics import calibration_bins, expected_calibration_error, summarise_samples
from fettle.runs.records import SampleResults


def results_of(lengths: np.ndarray, seed: int = 0) -> tuple[SampleResults, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    n, total = lengths.size, int(lengths.sum())
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
    token = {
        "logprob": -rng.gamma(1.0, 0.4, total),
        "entropy": rng.gamma(1.0, 0.5, total),
        "confidence": rng.random(total),
        "correct": rng.random(total) < 0.8,
    }
    per = [slice(offsets[i], offsets[i + 1]) for i in range(n)]
    bins = calibration_bins(token["confidence"], token["correct"], offsets)
    results = SampleResults(
        sample_id=np.array([f"s{i}" for i in range(n)], dtype=np.str_),
        pattern=np.array([""] * n, dtype=np.str_),
        cross_entropy_sum=np.array([-token["logprob"][p].sum() for p in per]),
        tokens=lengths.astype(np.int64),
        exact_match=np.array([bool(token["correct"][p].all()) for p in per]),
        entropy_sum=np.array([token["entropy"][p].sum() for p in per]),
        bin_tokens=bins[0],
        bin_confidence=bins[1],
        bin_correct=bins[2],
    )
    return results, token


def test_every_field() -> None:
    results, token = results_of(np.random.default_rng(9).integers(1, 6, 80))
    row = summarise_samples(results)
    assert row["cross_entropy"] == pytest.approx(-token["logprob"].mean())
    assert row["surprisal"] == row["cross_entropy"]
    assert row["entropy"] == pytest.approx(token["entropy"].mean())
    assert row["perplexity"] == pytest.approx(np.exp(-token["logprob"].mean()))
    assert row["expected_calibration_error"] == pytest.approx(
        expected_calibration_error(token["confidence"], token["correct"])
    )
    hits = int(results.exact_match.sum())
    assert 0 < hits < 80
    wilson = stats.binomtest(hits, 80).proportion_ci(method="wilson")
    assert (row["exact_match"], row["exact_match_low"], row["exact_match_high"]) == pytest.approx(
        (hits / 80, wilson.low, wilson.high)
    )
    assert (row["samples"], row["tokens"]) == (80, token["logprob"].size)
    assert row["cross_entropy_low"] < row["cross_entropy"] < row["cross_entropy_high"]


def test_what_was_not_measured_is_none() -> None:
    results, _ = results_of(np.full(20, 6))
    nothing = np.zeros((20, 10))
    told = replace(results, entropy_sum=None, bin_tokens=nothing, bin_confidence=nothing, bin_correct=nothing)
    row = summarise_samples(told)
    assert row["entropy"] is None
    assert row["expected_calibration_error"] is None
    assert row["cross_entropy"] == summarise_samples(results)["cross_entropy"]


def test_zero_exact_match_is_zero_not_missing() -> None:
    results, _ = results_of(np.full(20, 60))
    assert summarise_samples(results)["exact_match"] == 0.0


def test_no_samples_is_not_measured() -> None:
    results, _ = results_of(np.array([], dtype=np.int64))
    row = summarise_samples(results)
    assert row["samples"] == 0
    measured = {key for key, value in row.items() if value is not None}
    assert measured == {"samples", "tokens"}
