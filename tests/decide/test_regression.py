"""Candidates against a baseline: found when worse, silent when not, undecided where it cannot be told."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fettle.decide.compare import holm
from fettle.decide.paired import Metric, SampleValues, sample_values
from fettle.decide.regression import Change, flips
from fettle.decide.regression import changes as changes_of_values
from fettle.runs.records import SampleResults


def table(values: np.ndarray, right: np.ndarray, tokens: np.ndarray | None = None) -> SampleResults:
    n = values.size
    return SampleResults(
        sample_id=np.array([f"{i}" for i in range(n)]),
        pattern=np.full(n, "other"),
        cross_entropy_sum=values,
        tokens=np.full(n, 10) if tokens is None else tokens,
        exact_match=right,
        entropy_sum=np.zeros(n),
        bin_tokens=np.zeros((n, 10)),
        bin_confidence=np.zeros((n, 10)),
        bin_correct=np.zeros((n, 10)),
    )


def changes(
    baseline: tuple[str, SampleResults], candidates: dict[str, SampleResults], metric: Metric, **more: float
) -> list[Change]:
    others = {name: sample_values(results, metric) for name, results in candidates.items()}
    base = (baseline[0], sample_values(baseline[1], metric))
    return changes_of_values(base, others, metric, **more)


def nulls(seed: int, count: int, n: int, noise: float) -> tuple[SampleResults, dict[str, SampleResults]]:
    """A baseline and checkpoints that are as good as it."""
    rng = np.random.default_rng(seed)
    level, skill = 10 * rng.gamma(2, 0.4, n), rng.random(n)

    def draw() -> SampleResults:
        return table(level + 10 * noise * rng.standard_normal(n), rng.random(n) < skill)

    return draw(), {f"{i}": draw() for i in range(count)}


# 5 % of 200 are 10, and of 60 are 3; more than these happens once in a hundred times.
@pytest.mark.parametrize(("runs", "most"), [(60, 7), pytest.param(200, 17, marks=pytest.mark.slow)])
@pytest.mark.parametrize("metric", ["exact_match", "cross_entropy"])
def test_a_family_of_equal_checkpoints_is_rarely_called_worse(metric: Metric, runs: int, most: int) -> None:
    false = 0
    for seed in range(runs):
        base, candidates = nulls(seed, 20, 300, 0.1)
        found = changes(("base", base), candidates, metric, margin=0.0)
        false += any(change.outcome in ("regressed", "improved") for change in found)
    assert false <= most


def test_a_small_regression_among_many_is_found() -> None:
    found = false = 0
    for seed in range(30):
        base, candidates = nulls(seed, 20, 2000, 0.1 / np.sqrt(2))
        worse = candidates["7"]
        candidates["7"] = table(worse.cross_entropy_sum + 0.1, worse.exact_match)  # 0.01 nats a token
        outcome = {c.name: c.outcome for c in changes(("base", base), candidates, "cross_entropy")}
        found += outcome["7"] == "regressed"
        false += len({o for name, o in outcome.items() if name != "7"} & {"improved", "regressed"}) > 0
    assert found >= 0.85 * 30
    assert false <= 4


def test_one_candidate_is_tested_as_scipy_tests_it() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.random(400) < 0.6, rng.random(400) < 0.5
    values = rng.gamma(2, 4, 400)
    base, other = table(values, before), table(values + rng.normal(0.05, 1, 400), after)
    (em,) = changes(("a", base), {"b": other}, "exact_match")
    lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
    assert em.p_adjusted == pytest.approx(stats.binomtest(gained, lost + gained).pvalue)
    assert em.difference == pytest.approx((gained - lost) / 400)
    (ce,) = changes(("a", base), {"b": other}, "cross_entropy", margin=0.0)
    test = stats.ttest_rel(other.cross_entropy_sum, base.cross_entropy_sum)
    assert ce.p_adjusted == pytest.approx(test.pvalue, abs=0.02)
    interval = test.confidence_interval(0.95)
    assert (10 * ce.low, 10 * ce.high) == pytest.approx((interval.low, interval.high), abs=0.01)  # type: ignore[operator]


def test_large_and_equal_is_equivalent_and_small_is_undecided() -> None:
    base, candidates = nulls(1, 1, 20_000, 0.05)
    (change,) = changes(("a", base), candidates, "cross_entropy")
    assert change.outcome == "equivalent"
    few, others = nulls(2, 1, 30, 0.3)
    (change,) = changes(("a", few), others, "cross_entropy")
    assert change.outcome == "undecided"
    assert change.needed is not None
    assert 5_000 < change.needed < 200_000


def test_a_change_below_the_margin_or_the_noise_is_none() -> None:
    rng = np.random.default_rng(0)
    values = rng.gamma(2, 4, 1000)
    base = table(values, values < 5)
    shifted = {"b": table(values + 0.02 + 1e-6 * rng.standard_normal(1000), values < 5)}
    assert changes(("a", base), shifted, "cross_entropy")[0].outcome == "equivalent"
    assert changes(("a", base), shifted, "cross_entropy", margin=0.001)[0].outcome == "regressed"
    found = changes(("a", base), shifted, "cross_entropy", margin=0.001, noise=0.01)
    assert found[0].outcome == "equivalent"
    assert found[0].margin == 0.01


def test_samples_that_are_not_shared_decide_nothing() -> None:
    base, candidates = nulls(0, 2, 50, 0.1)
    other = candidates["1"]
    candidates["1"] = SampleResults(
        **{f: getattr(other, f) for f in SampleResults.__dataclass_fields__ if f != "sample_id"},
        sample_id=np.array([f"other {i}" for i in range(50)]),
    )
    found = changes(("a", base), candidates, "exact_match")
    assert [c.samples for c in found] == [50, 0]
    assert found[1].outcome == "undecided"
    assert found[1].reason


def test_weights_are_tokens() -> None:
    tokens = np.array([1, 99] * 50)
    base = table(np.zeros(100), np.ones(100, bool), tokens)
    after = table(np.where(tokens == 1, 1.0, 0.0), np.ones(100, bool), tokens)
    (change,) = changes(("a", base), {"b": after}, "cross_entropy")
    assert change.difference == pytest.approx(50 / 5000)


def test_flips_both_ways() -> None:
    right = np.array([True, True, False, False])
    after = np.array([True, False, True, False])
    before, now = (sample_values(table(np.zeros(4), known), "exact_match") for known in (right, after))
    assert flips(before, now) == (["2"], ["1"])


def test_shares_of_several_answers_are_paired_too() -> None:
    false = found = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        skill = rng.beta(1, 1, 400)

        def drawn(shift: float, rng: np.random.Generator = rng, skill: np.ndarray = skill) -> SampleValues:
            right = rng.binomial(8, np.clip(skill + shift, 0, 1)) / 8
            right[:3] = np.nan  # Not judged.
            return SampleValues(np.array([f"{i}" for i in range(400)]), right, np.ones(400))

        alike = changes_of_values(("a", drawn(0)), {f"{i}": drawn(0) for i in range(5)}, "mine", margin=0.0)
        (worse,) = changes_of_values(("a", drawn(0)), {"b": drawn(-0.05)}, "mine")
        assert worse.samples == 397
        false += any(change.outcome in ("regressed", "improved") for change in alike)
        found += worse.outcome == "regressed"
    # 5 % of 60 are 3; 9 or more happen three times in a thousand.
    assert false < 9
    assert found >= 54


def test_holm_is_statsmodels() -> None:
    # statsmodels.stats.multitest.multipletests([.01, .04, .03, .005], method="holm")[1]
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_a_few_equal_answers_are_no_proof_of_equal_skill() -> None:
    def outcome(n: int) -> str:
        same = SampleValues(np.array([f"{i}" for i in range(n)]), np.ones(n), np.ones(n))
        (change,) = changes_of_values(("a", same), {"b": same}, "exact_match", margin=0.02)
        assert change.low is not None
        assert change.low < 0 < (change.high or 0)
        return change.outcome

    # The 90 % interval of no change among n is about 1.645 * sqrt(2) / (n + 2) on either side.
    assert outcome(8) == outcome(100) == "undecided"
    assert outcome(200) == "equivalent"


def test_the_interval_of_a_share_holds_its_truth() -> None:
    held = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        ids = np.array([f"{i}" for i in range(40)])
        before = rng.random(40) < 0.9
        after = np.where(rng.random(40) < 0.05, ~before, before)  # Down by 4 points on average.
        tables = [SampleValues(ids, right.astype(float), np.ones(40)) for right in (before, after)]
        (change,) = changes_of_values(("a", tables[0]), {"b": tables[1]}, "exact_match")
        assert change.low is not None
        assert change.high is not None
        held += change.low <= -0.04 <= change.high
    assert held >= 0.93 * 300
