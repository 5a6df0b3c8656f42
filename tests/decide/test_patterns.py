"""Which kind of prompt fails, at which length, on enough evidence, and what the next data should be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from decide.fixed_evals import fixed_eval
from fettle.decide.next_data import NextData, recommend_data, train_counts, train_share
from fettle.decide.patterns import (
    PatternResult,
    cell_results,
    pattern_results,
    results_by_pattern,
    weak_cell,
    weakest_pattern,
)
from fettle.metrics import PatternMatrix
from fettle.runs.records import FixedEval

SHORT, MIDDLE = 50, 400
"""Tokens of an answer in the bins 0-100 and 300-500."""


def kinds(shares: dict[Any, tuple[int, int]], tokens: int | None = None) -> FixedEval:
    """{pattern, or (pattern, tokens): (n, correct)}; without tokens, answers are 1, 2, 3 ... tokens long."""
    keys = [
        key if isinstance(key, tuple) else (key, tokens) for key, (n, _) in shares.items() for _ in range(n)
    ]
    right = [i < c for n, c in shares.values() for i in range(n)]
    lengths = [i + 1 if length is None else length for i, (_, length) in enumerate(keys)]
    return fixed_eval(1, np.full(len(keys), 0.5), right, pattern=[p for p, _ in keys], tokens=lengths)


def table(shares: dict[Any, tuple[int, int]], tokens: int | None = SHORT) -> PatternMatrix:
    matrix = results_by_pattern(kinds(shares, tokens).per_sample, None)
    assert matrix is not None
    return matrix


def rows(shares: dict[Any, tuple[int, int]]) -> list[PatternResult]:
    return pattern_results(table(shares))


# -- kinds ----------------------------------------------------------------------------


def test_each_kind_with_wilson_interval_weakest_first() -> None:
    found = rows({"factual": (50, 47), "reasoning": (214, 143), "rare": (7, 0)})
    assert [r.text for r in found] == [
        "reasoning 67 % EM (n = 214)",
        "factual 94 % EM (n = 50)",
        "rare: too few (n = 7)",
    ]
    wilson = stats.binomtest(143, 214).proportion_ci(method="wilson")
    assert (found[0].low, found[0].high) == pytest.approx((wilson.low, wilson.high))
    assert found[0].cross_entropy == pytest.approx(0.5)


def test_without_patterns_there_is_nothing_to_say() -> None:
    assert pattern_results(results_by_pattern(fixed_eval(1, [0.5, 0.5]).per_sample, None)) == []
    assert pattern_results(results_by_pattern(None, None)) == []


def test_samples_without_a_pattern_are_other() -> None:
    found = rows({"": (30, 10), "other": (10, 0), "math": (30, 30)})
    assert {r.pattern: (r.n, r.correct) for r in found} == {"other": (40, 10), "math": (30, 30)}


def test_weakest_must_stand_out() -> None:
    weakest = weakest_pattern(rows({"a": (100, 90), "b": (100, 50)}))
    assert weakest is not None
    assert weakest.pattern == "b"
    assert weakest_pattern(rows({"a": (100, 90), "b": (100, 86)})) is None
    # 0 of 7 is striking, and too few to judge.
    assert weakest_pattern(rows({"a": (100, 90), "b": (7, 0)})) is None
    assert weakest_pattern(rows({"a": (100, 50)})) is None


def test_false_weakest_of_ten_equal_kinds_is_rare() -> None:
    found = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        found += (
            weakest_pattern(rows({f"k{i}": (40, int(rng.binomial(40, 0.7))) for i in range(10)})) is not None
        )
    assert found / 200 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


# -- lengths ---------------------------------------------------------------------------


def test_the_bins_of_the_run_are_used() -> None:
    samples = kinds({"a": (30, 30)}, tokens=7).per_sample
    default, own = (results_by_pattern(samples, m) for m in (None, {"patterns": {"length_bins": [5, 10]}}))
    assert default is not None
    assert own is not None
    assert [c.length for c in default.cells] == ["0-100"]
    assert [c.length for c in own.cells] == ["5-10"]


def test_the_length_at_which_the_weakest_kind_fails() -> None:
    uneven = table({"factual": (200, 190), ("reasoning", SHORT): (100, 90), ("reasoning", MIDDLE): (114, 48)})
    weakest = weakest_pattern(pattern_results(uneven))
    assert weakest is not None
    cell = weak_cell(uneven, weakest.pattern)
    assert cell is not None
    assert cell.text == "reasoning, 300-500 tokens 42 % EM (n = 114)"
    even = table({"factual": (200, 190), ("reasoning", SHORT): (100, 50), ("reasoning", MIDDLE): (100, 52)})
    assert weak_cell(even, "reasoning") is None  # weak at every length: the length is not the reason


def test_one_cell_stands_out_where_no_kind_does() -> None:
    shares = {("a", SHORT): (200, 180), ("b", SHORT): (200, 190), ("b", MIDDLE): (40, 15)}
    matrix = table(shares)
    assert weakest_pattern(pattern_results(matrix)) is None
    cell = weak_cell(matrix, None)
    assert cell is not None
    assert (cell.pattern, cell.length) == ("b", "300-500")
    assert weak_cell(table({**shares, ("b", MIDDLE): (12, 0)}), None) is None  # too few


def test_a_false_weak_cell_is_rare() -> None:
    """All that is looked at pays: kinds first, then cells."""
    found = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        shares = {
            (f"k{i}", t): (40, int(rng.binomial(40, 0.7))) for i in range(4) for t in (SHORT, MIDDLE, 700)
        }
        matrix = table(shares)
        weakest = weakest_pattern(pattern_results(matrix))
        found += weakest is not None or weak_cell(matrix, None) is not None
    assert found / 200 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_cells_weakest_first_and_those_too_few_last() -> None:
    cells = cell_results(table({("a", SHORT): (30, 20), ("a", MIDDLE): (30, 5), ("b", SHORT): (5, 0)}))
    assert [(c.pattern, c.length, c.enough) for c in cells] == [
        ("a", "300-500", True), ("a", "0-100", True), ("b", "0-100", False)
    ]  # fmt: skip


# -- what to add next ----------------------------------------------------------------------


def counted(counts: dict[tuple[str, str], int]) -> dict[str, Any]:
    """metadata.json of a run whose training data was counted so."""
    cells = [{"pattern": p, "length": length, "seen": n} for (p, length), n in counts.items()]
    return {"patterns": {"train": cells}}


def advice(
    shares: dict[Any, tuple[int, int]],
    metadata: dict[str, Any] | None = None,
    first: PatternMatrix | None = None,
    tokens: int | None = None,
) -> NextData:
    chosen = kinds(shares, tokens).per_sample
    assert chosen is not None
    matrix = results_by_pattern(chosen, metadata)
    weakest = weakest_pattern(pattern_results(matrix))
    weak = weak_cell(matrix, weakest.pattern if weakest else None) or weakest
    assert weak is not None
    return recommend_data(chosen, weak, first, metadata)


TWO = {"factual": (100, 95), "reasoning": (100, 40)}


def test_recommends_the_weakest_with_lengths_of_its_failures() -> None:
    # All in one bin below 300, failing from 41 on: the 10th to 90th percentile of their tokens.
    shares = {"factual": (99, 95), "reasoning": (100, 40)}
    found = advice({("factual", 10): (99, 95), ("reasoning", 50): (100, 40)})
    assert found.text == "Next run: add 'reasoning' examples (40 % EM, n = 100)."
    assert (found.length, found.tokens_low, found.tokens_high) == (None, 50, 50)
    spread = advice({("reasoning", 10 + i): (20, 8) for i in range(5)} | {("factual", 10): (100, 95)})
    assert spread.text == "Next run: add 'reasoning' examples of 10-14 tokens (40 % EM, n = 100)."
    assert advice(shares).pattern == "reasoning"


def test_recommends_the_cell_with_its_share_of_the_training_data() -> None:
    shares = {
        ("factual", SHORT): (200, 190),
        ("reasoning", SHORT): (100, 90),
        ("reasoning", MIDDLE): (214, 90),
    }
    counts = {("factual", "0-100"): 900, ("reasoning", "0-100"): 70, ("reasoning", "300-500"): 30}
    found = advice(shares, counted(counts))
    assert found.text == (
        "Next run: add 'reasoning' examples of 300-500 tokens "
        "(42 % EM, n = 214; now 3.0 % of the training data)."
    )
    assert (found.action, found.length, found.train_share) == ("add", "300-500", 0.03)
    del counts["reasoning", "300-500"]
    assert "; now 0 % of the training data)" in advice(shares, counted(counts)).text


def test_share_of_training_data_by_kind_and_by_cell() -> None:
    counts = train_counts(counted({("a", "0-100"): 30, ("a", "100-300"): 10, ("b", "0-100"): 60}))
    assert train_share(counts, "a", None) == 0.4
    assert train_share(counts, "a", "100-300") == 0.1
    assert train_share(counts, "c", None) == 0.0  # counted, and none there
    assert train_share({}, "a", None) is None  # nobody counted


def test_well_represented_and_never_learned_is_not_for_more_of_the_same() -> None:
    shares = {"factual": (100, 95), "riddle": (100, 2)}
    half = counted({("factual", "0-100"): 500, ("riddle", "0-100"): 500})
    first = table({"factual": (100, 10), "riddle": (100, 1)})
    found = advice(shares, half, first, SHORT)
    assert found.action == "inspect"
    assert found.text.startswith("Look at the 'riddle' examples: 50 % of the training data, and still 2 % EM")
    # It did learn, or is rare, or nobody knows how it began: then more of it.
    learning = table({"factual": (100, 10), "riddle": (100, 0)})
    assert advice({"factual": (100, 95), "riddle": (100, 40)}, half, learning, SHORT).action == "add"
    rare = counted({("factual", "0-100"): 990, ("riddle", "0-100"): 10})
    assert advice(shares, rare, first, SHORT).action == "add"
    assert advice(shares, half, None, SHORT).action == "add"


@pytest.mark.parametrize(
    "metadata", [None, {}, {"patterns": {}}, {"patterns": "?"}, {"patterns": {"train": []}}]
)
def test_share_that_was_not_counted_is_left_out(metadata: dict[str, Any] | None) -> None:
    found = advice({"a": (50, 49), "b": (50, 10)}, metadata)
    assert found.train_share is None
    assert "training data" not in found.text


def test_prompts_never_told_apart_are_told_by_length_alone() -> None:
    found = advice({("", SHORT): (100, 90), ("", MIDDLE): (100, 20)})
    assert found.text == "Next run: add examples of 300-500 tokens (20 % EM, n = 100)."
