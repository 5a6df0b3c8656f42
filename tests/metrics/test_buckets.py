"""Curves in buckets: every spike is kept, everything that is no number is counted."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.metrics.buckets import FIELDS, INF, MINUS_INF, NAN, min_max_buckets

CODES = {"nan": NAN, "inf": INF, "-inf": MINUS_INF}
FIELD = {name: i for i, name in enumerate(FIELDS)}


def plain_buckets(
    rows: list[tuple[float, float | str]], bounds: list[tuple[float, float]]
) -> list[list[float]]:
    """The fields of each bucket from its rows, by Python's own min and max."""
    found = []
    for first, last in bounds:
        inside = [y for x, y in rows if first <= x <= last]
        numbers = [y for y in inside if not isinstance(y, str)]
        flags = [y for y in inside if isinstance(y, str)]
        found.append(
            [
                min(numbers, default=math.nan),
                max(numbers, default=math.nan),
                math.fsum(numbers) / len(numbers) if numbers else math.nan,
                len(numbers), len(flags), flags.count("nan"), flags.count("inf"), flags.count("-inf"),
            ]
        )  # fmt: skip
    return found


values = st.one_of(st.floats(-1e9, 1e9), st.sampled_from(["nan", "inf", "-inf"]))


@settings(deadline=None, max_examples=300)
@given(rows=st.lists(values, min_size=1, max_size=300), width=st.integers(1, 80), gap=st.integers(1, 9))
def test_every_extreme_and_every_nonfinite_value_is_in_its_bucket(
    rows: list[float | str], width: int, gap: int
) -> None:
    x = np.cumsum(1 + np.arange(len(rows)) % gap).astype(np.float64)
    y = np.array([np.nan if isinstance(v, str) else v for v in rows])
    codes = np.array([CODES[v] if isinstance(v, str) else np.nan for v in rows])
    found = min_max_buckets(x, y, width, codes).values
    assert 1 <= len(found) <= width
    assert found[:, 5:7].sum() == len(rows)
    bounds = [(float(a), float(b)) for a, b in found[:, :2]]
    assert all(before[1] < after[0] for before, after in itertools.pairwise(bounds))
    expected = plain_buckets(list(zip(x.tolist(), rows, strict=True)), bounds)
    np.testing.assert_allclose(found[:, 2:], expected, rtol=1e-12, atol=1e-6)
    np.testing.assert_array_equal(found[:, [2, 3]], np.array(expected)[:, [0, 1]])  # Extremes are exact.


def test_a_single_spike_of_a_million_steps_is_kept() -> None:
    x, y = np.arange(1_000_000.0), np.full(1_000_000, 2.0)
    y[[123_456, 777_777]] = 50.0, -3.0
    found = min_max_buckets(x, y, 1000)
    assert not found.raw
    assert (found.values[:, FIELD["max"]] == 50.0).sum() == 1
    assert (found.values[:, FIELD["min"]] == -3.0).sum() == 1
    assert found.values[:, FIELD["count"]].sum() == 1_000_000
    spike = found.values[found.values[:, FIELD["max"]] == 50.0][0]
    assert spike[0] <= 123_456 <= spike[1]


def test_few_rows_come_back_as_they_are() -> None:
    found = min_max_buckets(np.array([1.0, 2.0, 5.0]), np.array([3.0, 1.0, 2.0]), 3)
    assert found.raw
    assert found.values[:, :6].tolist() == [[1, 1, 3, 3, 3, 1], [2, 2, 1, 1, 1, 1], [5, 5, 2, 2, 2, 1]]


def test_a_window_holds_its_bounds_and_nothing_else() -> None:
    x = np.arange(100.0)
    found = min_max_buckets(x, x, 1000, start=10, stop=20)
    assert found.values[:, 0].tolist() == list(range(10, 21))
    assert len(min_max_buckets(x, x, 10, start=200, stop=300).values) == 0


def test_what_was_not_measured_counts_nowhere() -> None:
    x = np.array([1.0, 2.0, 3.0, np.nan, 5.0])
    y = np.array([1.0, np.nan, np.nan, 4.0, 5.0])
    codes = np.array([np.nan, np.nan, NAN, np.nan, np.nan])
    found = min_max_buckets(x, y, 10, codes).values
    assert found[:, 0].tolist() == [1.0, 3.0, 5.0]
    assert found[:, FIELD["nonfinite_count"]].tolist() == [0, 1, 0]
    assert len(min_max_buckets(x, np.full(5, np.nan), 10).values) == 0


def test_an_axis_that_goes_back_keeps_the_order_of_the_log() -> None:
    x = np.array([5.0, 1.0, 9.0, 3.0, 7.0, 2.0])
    y = np.array([0.0, 10.0, 2.0, -4.0, 1.0, 3.0])
    found = min_max_buckets(x, y, 3).values
    assert found[:, 0].tolist() == [5.0, 9.0, 7.0]
    assert found[:, FIELD["max"]].tolist() == [10.0, 2.0, 3.0]
    assert found[:, FIELD["min"]].tolist() == [0.0, -4.0, 1.0]
    window = min_max_buckets(x, y, 100, start=2, stop=6).values
    assert window[:, 0].tolist() == [5.0, 3.0, 2.0]


@pytest.mark.parametrize("huge", [1.7e308, -1.7e308])
def test_numbers_at_the_end_of_the_range_do_not_overflow(huge: float) -> None:
    found = min_max_buckets(np.arange(6.0), np.full(6, huge), 2).values
    assert found[:, FIELD["min"]].tolist() == [huge, huge]
    assert np.isfinite(found[:, FIELD["mean"]]).all()
