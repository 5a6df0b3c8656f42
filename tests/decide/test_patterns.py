"""Which kind of prompt fails, on enough evidence, and what the next data should be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from decide.fixed_evals import fixed_eval
from fettle.decide.patterns import pattern_results, recommend_data, weakest_pattern
from fettle.runs.records import FixedEval


def kinds(shares: dict[str, tuple[int, int]], step: int = 1, tokens: int | None = None) -> FixedEval:
    """{pattern: (n, correct)}."""
    names = [p for p, (n, _) in shares.items() for _ in range(n)]
    right = [i < c for n, c in shares.values() for i in range(n)]
    lengths = np.arange(1, len(names) + 1) if tokens is None else np.full(len(names), tokens)
    return fixed_eval(step, np.full(len(names), 0.5), right, pattern=names, tokens=lengths)


def test_each_kind_with_wilson_interval_weakest_first() -> None:
    rows = pattern_results(kinds({"factual": (50, 47), "reasoning": (214, 143), "rare": (7, 0)}).per_sample)
    assert [r.text for r in rows] == [
        "reasoning 67 % EM (n = 214)",
        "factual 94 % EM (n = 50)",
        "rare: too few (n = 7)",
    ]
    wilson = stats.binomtest(143, 214).proportion_ci(method="wilson")
    assert (rows[0].low, rows[0].high) == pytest.approx((wilson.low, wilson.high))
    assert rows[0].cross_entropy == pytest.approx(0.5)


def test_without_patterns_there_is_nothing_to_say() -> None:
    assert pattern_results(fixed_eval(1, [0.5, 0.5]).per_sample) == []
    assert pattern_results(None) == []


def test_samples_without_a_pattern_are_other() -> None:
    rows = pattern_results(kinds({"": (30, 10), "other": (10, 0), "math": (30, 30)}).per_sample)
    assert {r.pattern: (r.n, r.correct) for r in rows} == {"other": (40, 10), "math": (30, 30)}


def test_weakest_must_stand_out() -> None:
    clear = pattern_results(kinds({"a": (100, 90), "b": (100, 50)}).per_sample)
    weakest = weakest_pattern(clear)
    assert weakest is not None
    assert weakest.pattern == "b"
    assert weakest_pattern(pattern_results(kinds({"a": (100, 90), "b": (100, 86)}).per_sample)) is None
    # 0 of 7 is striking, and too few to judge.
    few = pattern_results(kinds({"a": (100, 90), "b": (7, 0)}).per_sample)
    assert weakest_pattern(few) is None
    assert weakest_pattern(pattern_results(kinds({"a": (100, 50)}).per_sample)) is None


def test_false_weakest_of_ten_equal_kinds_is_rare() -> None:
    found = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        shares = {f"k{i}": (40, int(rng.binomial(40, 0.7))) for i in range(10)}
        found += weakest_pattern(pattern_results(kinds(shares).per_sample)) is not None
    assert found / 200 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def advice(shares: dict, metadata: dict | None = None, first: FixedEval | None = None) -> str:
    chosen = kinds(shares, step=5)
    weakest = weakest_pattern(pattern_results(chosen.per_sample))
    found = recommend_data(chosen, first, weakest, metadata)
    assert found is not None
    return found.text


def test_recommends_the_weakest_with_length_and_share() -> None:
    shares = {"factual": (100, 95), "reasoning": (100, 40)}
    # The failing ones are samples 141-200 of that many tokens: their 10th to 90th percentile.
    assert advice(shares) == "Next run: add 'reasoning' examples of 140-200 tokens."
    assert advice(shares, {"train_patterns": {"factual": 970, "reasoning": 30}}) == (
        "Next run: add 'reasoning' examples of 140-200 tokens (now 3.0 % of the training data)."
    )
    assert "0 % of the training data" in advice(shares, {"train_patterns": {"factual": 970}})


def test_well_represented_and_never_learned_is_not_for_more_of_the_same() -> None:
    shares = {"factual": (100, 95), "riddle": (100, 2)}
    first = kinds({"factual": (100, 10), "riddle": (100, 1)})
    counts = {"train_patterns": {"factual": 500, "riddle": 500}}
    text = advice(shares, counts, first)
    assert text.startswith("Look at the 'riddle' examples: 50 % of the training data, and still 2 % EM")
    # It did learn, or is rare: then more of it.
    learning = kinds({"factual": (100, 10), "riddle": (100, 0)})
    assert advice({"factual": (100, 95), "riddle": (100, 40)}, counts, learning).startswith("Next run: add")
    rare = {"train_patterns": {"factual": 990, "riddle": 10}}
    assert advice(shares, rare, first).startswith("Next run: add")


@pytest.mark.parametrize("metadata", [None, {}, {"train_patterns": {}}, {"train_patterns": "?"}])
def test_share_that_was_not_counted_is_left_out(metadata: dict | None) -> None:
    assert "training data" not in advice({"a": (50, 49), "b": (50, 10)}, metadata)


def test_nothing_to_recommend() -> None:
    chosen = kinds({"a": (50, 40), "b": (50, 41)})
    assert recommend_data(chosen, None, None, None) is None
