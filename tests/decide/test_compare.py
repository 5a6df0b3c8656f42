"""Runs against each other: paired, two-sided, corrected for how many there are."""

import numpy as np
import pytest
from scipy import stats

from fettle.decide.compare import compare_runs
from fettle.runs.records import FixedEval, SampleResults


def evaluated(exact: list[bool], nats: np.ndarray, ids: list[str] | None = None) -> FixedEval:
    n = len(exact)
    results = SampleResults(
        sample_id=np.array(ids or [f"s{i}" for i in range(n)]),
        pattern=np.array([""] * n),
        cross_entropy_sum=nats,
        tokens=np.arange(1, n + 1, dtype=np.int64),
        exact_match=np.array(exact),
        entropy_sum=np.zeros(n),
        bin_tokens=np.zeros((n, 10)),
        bin_confidence=np.zeros((n, 10)),
        bin_correct=np.zeros((n, 10)),
    )
    total = float(nats.sum() / results.tokens.sum())
    return FixedEval(step=7, exact_match=float(np.mean(exact)), cross_entropy=total, per_sample=results)


def test_two_runs_by_hand() -> None:
    a = evaluated([True] * 2 + [False] * 10, np.full(12, 6.0))
    b = evaluated([False] + [True] * 9 + [False] * 2, np.arange(1, 13) * 0.5)
    exact, nats = compare_runs({"a": a, "b": b})
    assert (exact.a, exact.b, exact.samples) == ("a", "b", 12)
    assert exact.difference == pytest.approx(7 / 12)
    assert exact.p == pytest.approx(stats.binomtest(1, 9).pvalue)  # One lost, eight gained.
    tokens = np.arange(1, 13)
    assert nats.difference == pytest.approx((39.0 - 72.0) / tokens.sum())
    residual = (np.arange(1, 13) * 0.5 - 6.0) - nats.difference * tokens
    error = np.sqrt(12 / 11 * (residual**2).sum()) / tokens.sum()
    assert nats.low == pytest.approx(nats.difference - stats.norm.ppf(0.975) * error)
    assert nats.p == pytest.approx(2 * stats.norm.sf(abs(nats.difference) / error))


def test_several_runs_are_corrected_by_holm() -> None:
    random = np.random.default_rng(0)
    runs = {
        name: evaluated((random.random(200) < share).tolist(), random.random(200))
        for name, share in (("a", 0.3), ("b", 0.45), ("c", 0.32))
    }
    exact = [c for c in compare_runs(runs) if c.metric == "exact_match"]
    assert [(c.a, c.b) for c in exact] == [("a", "b"), ("a", "c"), ("b", "c")]
    raw = np.array([c.p for c in exact])
    expected = np.empty(3)
    order = np.argsort(raw)
    expected[order] = np.minimum(1, np.maximum.accumulate(raw[order] * [3, 2, 1]))
    assert [c.p_adjusted for c in exact] == pytest.approx(expected.tolist())


def test_runs_on_other_samples_are_not_compared() -> None:
    a = evaluated([True, False], np.ones(2))
    b = evaluated([True, False], np.ones(2), ids=["x", "y"])
    for comparison in compare_runs({"a": a, "b": b, "c": FixedEval(step=1, exact_match=0.5)}):
        assert comparison.difference is None
        assert comparison.p_adjusted is None
        assert comparison.reason == "no per-sample results of the same samples"


def test_the_same_run_differs_by_nothing() -> None:
    a = evaluated([True, False, True], np.ones(3))
    for comparison in compare_runs({"a": a, "b": a}):
        assert (comparison.difference, comparison.p) == (0.0, 1.0)
