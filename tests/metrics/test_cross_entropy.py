"""Token-weighted cross-entropy with its interval, and perplexity."""

import math

import numpy as np
import pytest
from scipy import stats

from fettle.metrics import perplexity, token_cross_entropy


def test_weights_by_tokens_not_by_samples() -> None:
    # 1 token at 4 nats and 9 tokens at 1 nat each: 13 / 10, not the mean of means 2.5.
    estimate = token_cross_entropy(np.array([4.0, 9.0]), np.array([1, 9]))
    assert estimate is not None
    assert estimate.value == pytest.approx(1.3)


def test_interval_is_students_t_where_all_samples_have_one_token() -> None:
    x = np.random.default_rng(0).gamma(2.0, 0.5, 40)
    estimate = token_cross_entropy(x, np.ones(40, dtype=np.int64))
    low, high = stats.t.interval(0.95, 39, loc=x.mean(), scale=stats.sem(x))
    assert estimate is not None
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((x.mean(), low, high))
    assert estimate.standard_error == pytest.approx(stats.sem(x))


def test_interval_with_mixed_lengths_agrees_with_scipy_bootstrap() -> None:
    rng = np.random.default_rng(1)
    tokens = rng.integers(5, 120, 400)
    sums = tokens * rng.gamma(4.0, 0.1, 400)
    estimate = token_cross_entropy(sums, tokens)
    boot = stats.bootstrap(
        (sums, tokens),
        lambda s, t, axis: s.sum(axis) / t.sum(axis),
        paired=True,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(2),
    )
    assert estimate is not None
    assert estimate.standard_error == pytest.approx(boot.standard_error, rel=0.05)
    assert estimate.low == pytest.approx(boot.confidence_interval.low, abs=0.15 * boot.standard_error)
    assert estimate.high == pytest.approx(boot.confidence_interval.high, abs=0.15 * boot.standard_error)


def test_too_little_to_say() -> None:
    assert token_cross_entropy(np.array([]), np.array([], dtype=np.int64)) is None
    assert token_cross_entropy(np.array([0.0]), np.array([0])) is None
    single = token_cross_entropy(np.array([2.0]), np.array([4]))
    assert single is not None
    assert (single.value, single.low, single.high) == (0.5, None, None)


def test_perplexity() -> None:
    assert perplexity(0.0) == 1.0
    assert perplexity(math.log(20)) == pytest.approx(20)
    assert perplexity(1e4) == math.inf
    assert perplexity(None) is None
