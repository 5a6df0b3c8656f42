"""pass@k against exact enumeration; statistics of lengths and entropies."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from fettle.errors import ConfigError
from fettle.metrics import (
    entropy_statistics,
    length_statistics,
    mean_pass_at_k,
    pass_at_k,
    pass_rate,
    surprisal_statistics,
    wilson_interval,
)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_it_is_the_share_of_draws_with_a_right_one(n: int) -> None:
    for c in range(n + 1):
        right = [i < c for i in range(n)]
        for k in range(1, n + 1):
            draws = [any(draw) for draw in combinations(right, k)]
            assert pass_at_k(n, c, k) == pytest.approx(sum(draws) / len(draws), abs=1e-12)


def test_it_is_the_product_of_humaneval() -> None:
    """The form of Chen et al. 2021, figure 3, at sizes where factorials overflow."""
    for n, c, k in [(200, 3, 100), (1000, 500, 10), (1000, 1, 999)]:
        product = 1.0 if n - c < k else 1 - np.prod(1 - k / np.arange(n - c + 1, n + 1))
        assert pass_at_k(n, c, k) == pytest.approx(product, rel=1e-9)


def test_more_than_was_sampled_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"pass@8 cannot be told from 4 answers\. Sample at least 8"):
        pass_at_k(4, 4, 8)
    with pytest.raises(ConfigError):
        mean_pass_at_k([8, 4], [1, 1], 8)
    with pytest.raises(ConfigError):
        pass_at_k(4, 2, 0)


def test_the_mean_over_prompts_has_students_interval() -> None:
    values = [pass_at_k(8, c, 2) for c in (0, 2, 5, 8, 1)]
    found = mean_pass_at_k([8] * 5, [0, 2, 5, 8, 1], 2)
    assert found is not None
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert found.value == pytest.approx(np.mean(values))
    assert found.low == pytest.approx(max(0.0, low))
    assert found.high == pytest.approx(min(1.0, high))
    assert mean_pass_at_k([], [], 1) is None


def test_all_right_is_no_certainty() -> None:
    found = mean_pass_at_k([4] * 20, [4] * 20, 1)
    assert found is not None
    assert (found.value, found.low, found.high) == (1.0, *(wilson_interval(20, 20) or ()))
    assert found.low is not None
    assert 0.8 < found.low < 0.9
    one = mean_pass_at_k([4], [2], 1)
    assert one is not None
    assert (one.value, one.low) == (0.5, None)


def test_the_interval_holds_the_truth() -> None:
    """In about 95 % of repetitions, with prompts of different difficulty."""
    rng = np.random.default_rng(0)
    truth, inside = 0.4, 0
    for _ in range(400):
        correct = rng.binomial(8, rng.beta(2, 3, size=60))
        found = pass_rate([8] * 60, correct)
        assert found is not None
        inside += bool((found.low or 0) <= truth <= (found.high or 0))
    assert stats.binomtest(inside, 400, 0.95).pvalue > 0.01


def test_a_prompt_without_judged_answers_counts_for_nothing() -> None:
    found = pass_rate([4, 0, 4], [1, 0, 3])
    assert found is not None
    assert found.value == 0.5
    assert pass_rate([0], [0]) is None


def test_statistics_of_lengths_and_tokens() -> None:
    assert length_statistics([2, 4, 9]) == {
        "length_mean": 5.0,
        "length_std": pytest.approx(np.sqrt(26 / 3)),
        "length_min": 2.0,
        "length_max": 9.0,
    }
    values = np.linspace(0, 1, 101)
    found = entropy_statistics(np.append(values, np.nan))
    assert found == pytest.approx(
        {
            "entropy_mean": 0.5,
            "entropy_std": float(np.std(values)),
            "entropy_max": 1.0,
            "entropy_p95": 0.95,
        }
    )
    assert surprisal_statistics(-values)["surprisal_p95"] == pytest.approx(0.95)
    assert set(entropy_statistics(np.zeros(0)).values()) == {None}
