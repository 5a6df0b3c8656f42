"""Per-sample results come back as they were saved, whatever they hold."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from fettle.runs import save_samples
from fettle.runs.records import SampleResults
from fettle.runs.samples import load_samples, samples_path


def results(n: int = 50) -> SampleResults:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 300, (n, 10)).astype(np.float64)
    return SampleResults(
        sample_id=np.array([f"{i:016x}" for i in range(n)], dtype=np.str_),
        pattern=np.array(["coding", "math"] * (n // 2), dtype=np.str_),
        cross_entropy_sum=rng.gamma(2, 3, n),
        tokens=rng.integers(1, 70_000, n),
        exact_match=rng.random(n) < 0.5,
        entropy_sum=rng.gamma(2, 3, n),
        bin_tokens=counts,
        bin_confidence=counts * rng.random((n, 10)),
        bin_correct=counts,
    )


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"pattern": np.array(["数学", "\u00e9tude"] * 25, dtype=np.str_)},
        {"cross_entropy_sum": np.array([np.nan, np.inf, -np.inf, 2.0, 1e300] * 10)},
        {"bin_tokens": np.full((50, 10), -3.0)},
        {"bin_correct": np.full((50, 10), 2.0**60)},
        {"entropy_sum": np.full(50, np.nan)},
    ],
    ids=["plain", "other scripts", "no numbers", "negative", "large", "nan"],
)
def test_samples_come_back_bit_by_bit(tmp_path: Path, odd: dict[str, np.ndarray]) -> None:
    saved = replace(results(), **odd)
    save_samples(tmp_path, 7, saved)
    loaded = load_samples(tmp_path, 7)
    assert loaded is not None
    for field in fields(SampleResults):
        before, after = getattr(saved, field.name), getattr(loaded, field.name)
        assert after.dtype.kind == before.dtype.kind
        assert after.dtype.itemsize >= before.dtype.itemsize or before.dtype.kind == "U"
        np.testing.assert_array_equal(after, before)


def test_an_entropy_that_was_not_measured_stays_so(tmp_path: Path) -> None:
    save_samples(tmp_path, 1, replace(results(), entropy_sum=None))
    loaded = load_samples(tmp_path, 1)
    assert loaded is not None
    assert loaded.entropy_sum is None
    np.testing.assert_array_equal(loaded.tokens, results().tokens)


def test_counts_take_a_byte_or_two_on_disk(tmp_path: Path) -> None:
    few = replace(results(2000), bin_confidence=np.zeros((2000, 10)))
    save_samples(tmp_path, 1, few)
    # ids 32 kB, patterns 12, two sums 32, tokens 4, flags 2, three tables of counts 100; 700 unpacked.
    assert samples_path(tmp_path, 1).stat().st_size < 200_000


def test_no_samples_at_all_are_kept_too(tmp_path: Path) -> None:
    none = SampleResults(**{f.name: getattr(results(), f.name)[:0] for f in fields(SampleResults)})
    save_samples(tmp_path, 1, none)
    loaded = load_samples(tmp_path, 1)
    assert loaded is not None
    assert loaded.tokens.size == 0
