"""Results by kind of prompt and length of the answer, against hand counts and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fettle.config.patterns import LENGTH_BINS
from fettle.metrics import count_patterns, pattern_matrix
from fettle.metrics.patterns import balance, length_bins, length_labels


def test_bins_hold_their_lower_end_and_not_their_upper_one() -> None:
    edges = [0, 99, 100, 299, 300, 499, 500, 999, 1000, 1999, 2000, 10**6]
    labels = length_labels(LENGTH_BINS)
    assert labels == ["0-100", "100-300", "300-500", "500-1000", "1000-2000", "2000+"]
    assert [labels[i] for i in length_bins(np.array(edges), LENGTH_BINS)] == [
        label for label in labels for _ in range(2)
    ]


def test_cells_rows_and_columns_of_a_hand_counted_table() -> None:
    matrix = pattern_matrix(
        np.array(["math", "math", "", "coding", "math", "other"]),
        np.array([10, 99, 100, 10, 300, 20]),
        np.array([True, False, True, True, False, False]),
        np.array([1.0, 3.0, 5.0, 7.0, 30.0, 2.0]),
        LENGTH_BINS,
    )
    found = {(c.pattern, c.length): (c.seen, c.correct, c.tokens, c.cross_entropy_sum) for c in matrix.cells}
    assert found == {
        ("coding", "0-100"): (1, 1, 10, 7.0),
        ("math", "0-100"): (2, 1, 109, 4.0),
        ("math", "300-500"): (1, 0, 300, 30.0),
        ("other", "0-100"): (1, 0, 20, 2.0),
        ("other", "100-300"): (1, 1, 100, 5.0),
    }
    rows = {c.pattern: (c.seen, c.correct, c.tokens, c.length) for c in matrix.patterns}
    assert rows == {
        "coding": (1, 1, 10, None), "math": (3, 1, 409, None), "other": (2, 1, 120, None)
    }  # fmt: skip
    assert {c.length: (c.seen, c.correct, c.pattern) for c in matrix.columns} == {
        "0-100": (4, 2, None), "100-300": (1, 1, None), "300-500": (1, 0, None)
    }  # fmt: skip
    assert matrix.seen == 6
    cell = matrix.cell("math", "0-100")
    assert cell is not None
    assert cell.exact_match == 0.5
    assert cell.cross_entropy == pytest.approx(4 / 109)  # per token, not the mean of the samples


def test_an_unseen_cell_is_absent() -> None:
    matrix = pattern_matrix(
        np.array(["math"]), np.array([10]), np.array([False]), np.array([1.0]), LENGTH_BINS
    )
    assert matrix.cell("math", "2000+") is None
    assert matrix.cell("coding", "0-100") is None
    assert len(matrix.cells) == len(matrix.patterns) == len(matrix.columns) == 1


def test_no_samples_make_an_empty_table() -> None:
    empty = pattern_matrix(
        np.array([], dtype=np.str_), np.array([], dtype=np.int64), np.array([], dtype=bool), np.array([]), [5]
    )
    assert (empty.cells, empty.patterns, empty.columns, empty.seen, empty.balance) == ([], [], [], 0, None)


@pytest.mark.parametrize(("seen", "correct"), [(1, 0), (1, 1), (7, 3), (214, 90), (1000, 999)])
def test_interval_is_wilsons(seen: int, correct: int) -> None:
    matrix = pattern_matrix(
        np.full(seen, "reasoning"), np.full(seen, 400), np.arange(seen) < correct, np.ones(seen), LENGTH_BINS
    )
    wilson = stats.binomtest(correct, seen).proportion_ci(method="wilson")
    assert matrix.cells[0].interval == pytest.approx((wilson.low, wilson.high), abs=1e-12)


def test_random_tables_agree_with_a_count_sample_by_sample() -> None:
    rng = np.random.default_rng(0)
    names = rng.choice(["a", "b", "c", ""], 500)
    tokens = rng.integers(0, 2500, 500)
    right, nats = rng.random(500) < 0.5, rng.random(500) * tokens
    matrix = pattern_matrix(names, tokens, right, nats, LENGTH_BINS)
    edges = [0, *LENGTH_BINS, math.inf]
    for p in ("a", "b", "c", "other"):
        for label, low, high in zip(matrix.lengths, edges[:-1], edges[1:], strict=True):
            inside = (np.where(names == "", "other", names) == p) & (tokens >= low) & (tokens < high)
            cell = matrix.cell(p, label)
            assert (cell.seen if cell else 0) == inside.sum()
            if cell:
                assert cell.correct == right[inside].sum()
                assert cell.tokens == tokens[inside].sum()
                assert cell.cross_entropy_sum == pytest.approx(nats[inside].sum())
    assert count_patterns(names.tolist(), tokens, LENGTH_BINS) == [
        {"pattern": c.pattern, "length": c.length, "seen": c.seen} for c in matrix.cells
    ]


def test_balance_is_entropy_over_that_of_an_even_table() -> None:
    assert balance([5, 5, 5, 5], 4) == pytest.approx(1.0)
    assert balance([20], 4) == 0.0
    assert balance([9, 1], 4) == pytest.approx(stats.entropy([0.9, 0.1]) / math.log(4))
    assert balance([3, 0, 3], 2) == pytest.approx(1.0)
    assert balance([], 4) is None  # nothing seen
    assert balance([7], 1) is None  # one kind cannot be uneven
