"""Trend states and the error rates that stand behind them, by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from decide.fixed_evals import fixed_eval, hits, loss_only
from fettle.decide import trend
from fettle.decide.paired import SampleValues
from fettle.decide.trend import look_alpha, share_trend
from fettle.runs.records import FixedEval

RUNS = pytest.mark.parametrize("runs", [30, pytest.param(120, marks=pytest.mark.slow)])
"""Of 30 that are simulated 2 may be called wrong: without a correction for the looks 5 to 14 are."""


def noisy(levels: list[float], n: int = 800, noise: float = 0.1, seed: int = 0) -> list[FixedEval]:
    rng = np.random.default_rng(seed)
    base = 1 + rng.gamma(2, 0.2, n)
    return [fixed_eval(100 * (k + 1), base + v + rng.normal(0, noise, n)) for k, v in enumerate(levels)]


def correct(shares: list[float], n: int = 800, flips: float = 0.02, seed: int = 0) -> list[FixedEval]:
    """Exact match at these shares: the easiest samples are right, and a few flip each time."""
    rng = np.random.default_rng(seed)
    ease = rng.permutation(n) / n
    return [
        fixed_eval(100 * (k + 1), right=(ease < share) ^ (rng.random(n) < flips))
        for k, share in enumerate(shares)
    ]


def test_improving_in_both_metrics() -> None:
    by_loss = trend(noisy([0.5, 0.4, 0.3, 0.2, 0.1]), "cross_entropy")
    assert by_loss.state == "improving"
    assert by_loss.effect == pytest.approx(-0.4, abs=0.02)
    low, high = by_loss.interval or (0, 0)
    assert low < -0.4 < high < 0
    by_match = trend(correct([0.2, 0.3, 0.4, 0.5, 0.6]), "exact_match")
    assert by_match.state == "improving"
    assert by_match.effect == pytest.approx(0.4, abs=0.05)
    assert by_match.since_step == 100


def test_plateau_says_since_when() -> None:
    levels = [0.5, 0.3, 0.1] + [0.0] * 7
    found = trend(noisy(levels, n=2000, noise=0.05), "cross_entropy")
    assert found.state == "plateau"
    assert found.since_step is not None
    assert 400 <= found.since_step <= 600
    assert found.p_value is not None
    assert found.p_value > 0.05
    low, high = found.interval or (0, 0)
    assert low > -0.005
    assert high > low


def test_plateau_needs_to_rule_out_what_is_worth_having() -> None:
    levels = [0.0] * 5
    tight, loose = noisy(levels, n=2000, noise=0.05), noisy(levels, n=60)
    assert trend(tight, "cross_entropy").state == "plateau"
    undecided = trend(loose, "cross_entropy")
    assert undecided.state == "insufficient"
    assert undecided.tested
    assert "60 samples cannot tell" in undecided.explanation
    assert trend(loose, "cross_entropy", margin=0.2).state == "plateau"


def test_longer_plateau_is_found_where_a_window_cannot_tell() -> None:
    short = correct([0.8] * 5, n=1000)
    assert trend(short, "exact_match").state == "insufficient"
    found = trend(correct([0.8] * 30, n=1000), "exact_match")
    assert found.state == "plateau"
    assert found.evals > 5


def test_regressing_names_the_best_before() -> None:
    found = trend(noisy([0.3, 0.0, 0.1, 0.2, 0.3]), "cross_entropy")
    assert (found.state, found.since_step) == ("regressing", 200)
    assert found.effect == pytest.approx(0.3, abs=0.02)
    low, high = found.interval or (0, 0)
    assert 0 < low < 0.3 < high
    found = trend(correct([0.5, 0.8, 0.75, 0.7, 0.65]), "exact_match")
    assert (found.state, found.since_step) == ("regressing", 200)
    assert found.effect == pytest.approx(-0.15, abs=0.04)


def test_samples_that_all_get_worse_alike_are_a_regression() -> None:
    """Their differences do not vary at all, which is no lack of evidence."""
    right, wrong = np.ones(20, dtype=bool), np.zeros(20, dtype=bool)
    evals = [fixed_eval(s, right=right) for s in (100, 200, 300)]
    found = trend([*evals, fixed_eval(400, right=wrong)], "exact_match")
    assert (found.state, found.effect) == ("regressing", -1.0)
    assert trend([*evals, fixed_eval(400, right=right)], "exact_match").state != "regressing"


def shares(evals: list[FixedEval], answers: int = 1, seed: int = 0) -> dict[int, SampleValues]:
    """What a checker found right of the samples of these evals; further answers to one are as often right."""
    rng = np.random.default_rng(seed)
    found: dict[int, SampleValues] = {}
    for one in evals:
        assert one.per_sample is not None
        first = one.per_sample.exact_match
        more = rng.random((answers - 1, first.size)) < 0.1 + 0.8 * first
        values = np.stack([first, *more]).mean(0)
        found[one.step] = SampleValues(one.per_sample.sample_id, values, np.ones(first.size))
    return found


@pytest.mark.parametrize("levels", [[0.5, 0.8, 0.75, 0.7, 0.65], [0.1, 0.3, 0.5], [0.5] * 12])
def test_what_a_checker_finds_right_is_judged_as_exact_match_is(levels: list[float]) -> None:
    evals = correct(levels)
    found = share_trend("number_pass_rate", shares(evals))
    assert found.metric == "number_pass_rate"
    assert {**found.to_json(), "metric": "exact_match"} == trend(evals, "exact_match").to_json()


def test_shares_of_several_answers_are_judged() -> None:
    found = share_trend("number_pass_rate", shares(correct([0.5, 0.8, 0.75, 0.7, 0.65]), answers=4))
    assert (found.state, found.since_step) == ("regressing", 200)
    assert share_trend("number_pass_rate", shares(correct([0.1, 0.3, 0.5]), answers=4)).state == "improving"


def test_what_a_checker_could_not_judge_takes_no_part() -> None:
    tables = shares(correct([0.5, 0.8, 0.75, 0.7]))
    nothing = np.full(800, np.nan)
    tables[250] = SampleValues(tables[200].sample_id, nothing, np.ones(800))
    for table in tables.values():
        table.values[:50] = np.nan
    found = share_trend("number_pass_rate", tables)
    assert (found.state, found.samples, found.evals) == ("regressing", 750, 4)
    assert share_trend("number_pass_rate", {100: tables[250], 200: tables[200]}).state == "insufficient"


@RUNS
def test_false_regressions_of_shares_over_twenty_null_evals(runs: int) -> None:
    """At most 5 % of runs, as of exact match; with four answers to each of 200 samples."""
    n, k, ever = 200, 20, 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        chance, names = rng.beta(1, 1, n), np.array([str(i) for i in range(n)])
        tables = {s: SampleValues(names, rng.binomial(4, chance) / 4, np.ones(n)) for s in range(k)}
        seen = (share_trend("x", {s: tables[s] for s in range(last)}) for last in range(3, k + 1))
        ever += any(found.state == "regressing" for found in seen)
    assert ever / runs <= 0.07


def test_a_worsening_too_small_to_matter_is_no_regression() -> None:
    levels = [0.0, 0.0, 0.0, 0.0, 0.003]
    evals = noisy(levels, n=1000, noise=0.001)
    assert trend(evals, "cross_entropy").state == "plateau"
    assert trend(evals, "cross_entropy", margin=0.001).state == "regressing"


def test_identical_evals_are_level() -> None:
    same = [fixed_eval(100 * k, np.linspace(0.1, 2, 400), hits(400, 100)) for k in range(1, 6)]
    assert trend(same, "cross_entropy").state == "plateau"
    found = trend(same, "exact_match")
    assert (found.state, found.since_step, found.evals) == ("plateau", 100, 5)
    # With 100 samples one of them is a whole point: no change seen rules out no half point.
    few = [fixed_eval(100 * k, right=hits(100, 25)) for k in range(1, 6)]
    assert trend(few, "exact_match").state == "insufficient"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_insufficient_below_three_evals(count: int) -> None:
    found = trend(noisy([0.5, 0.0][:count]), "cross_entropy")
    assert (found.state, found.tested, found.p_value, found.evals) == ("insufficient", False, None, count)


def test_evals_that_were_not_measured_do_not_count() -> None:
    evals = [*noisy([0.5, 0.0]), FixedEval(step=300), FixedEval(step=400, cross_entropy=float("nan"))]
    assert trend(evals, "cross_entropy").evals == 2


def test_order_of_rows_does_not_matter() -> None:
    evals = noisy([0.3, 0.0, 0.1, 0.2, 0.3])
    assert trend(evals[::-1], "cross_entropy") == trend(evals, "cross_entropy")


def test_same_evidence_same_verdict() -> None:
    evals = noisy([0.0, 0.002, 0.01, 0.004, 0.012, 0.011], n=500)
    assert trend(evals, "cross_entropy") == trend(evals, "cross_entropy")


def test_a_handful_of_flips_is_judged_exactly() -> None:
    # 3 gained, 0 lost of 1,000: z = 1.7, but a coin does this one time in eight.
    right = [hits(1000, 500)] * 2 + [hits(1000, 503)]
    found = trend([fixed_eval(k, right=r) for k, r in enumerate(right)], "exact_match")
    assert found.state != "improving"
    assert found.p_value is not None
    assert found.p_value >= 0.125


@pytest.mark.parametrize(
    ("losses", "direction"),
    [
        ([2.0, 1.0, 0.8, 0.7, 0.6], "improving"),
        ([2.0, 1.0, 0.5, 0.55, 0.6, 0.65], "regressing"),
        ([0.5, 0.5003, 0.4998, 0.5001, 0.5], "plateau"),
        ([0.5, 0.7, 0.4, 0.6, 0.5], None),
    ],
)
def test_without_samples_only_a_direction(losses: list[float], direction: str | None) -> None:
    found = trend(loss_only(losses), "cross_entropy")
    assert (found.state, found.tested, found.p_value, found.interval) == ("insufficient", False, None, None)
    assert found.direction == direction
    assert found.text.endswith("without per-sample results to test it)")


def test_no_samples_at_the_last_eval_is_not_tested() -> None:
    evals = [*noisy([0.3, 0.2, 0.1]), FixedEval(step=400, cross_entropy=1.2)]
    assert not trend(evals, "cross_entropy").tested


# -- error rates --------------------------------------------------------------------


def test_alpha_of_all_looks_adds_up_to_alpha() -> None:
    assert sum(look_alpha(k) for k in range(1, 21)) == pytest.approx(0.04)
    total = sum(look_alpha(k) for k in range(1, 20 * 2**9 + 1))
    assert 0.0499 < total < 0.05
    assert all(look_alpha(k) >= look_alpha(k + 1) > 0 for k in range(1, 400))


def looks(evals: list[FixedEval], metric: str) -> list[str]:
    return [trend(evals[:k], metric).state for k in range(3, len(evals) + 1)]


@RUNS
@pytest.mark.parametrize("kind", ["cross_entropy", "random walk", "exact_match", "few unsure"])
def test_false_regressions_over_twenty_null_evals(kind: str, runs: int) -> None:
    """At most 5 % of runs in which nothing happens are ever called regressing, looked at each time."""
    n, k = 200, 20
    ever = 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        if kind in ("cross_entropy", "random walk"):
            noise = rng.normal(0, 0.1, (k, n))
            rows = 3 + (noise.cumsum(0) if kind == "random walk" else noise)
            evals = [fixed_eval(s, row) for s, row in enumerate(rows)]
            metric = "cross_entropy"
        else:
            chance = rng.beta(1, 1, n) if kind == "exact_match" else rng.choice([0.02, 0.98], n)
            evals = [fixed_eval(s, right=rng.random(n) < chance) for s in range(k)]
            metric = "exact_match"
        ever += "regressing" in looks(evals, metric)
    # 5 % and three Monte Carlo standard errors.
    assert ever / runs <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)
    # The bound above would let 10 % pass; measured over 400 runs these are below 3 %.
    assert ever / runs <= 0.07


def test_power_to_see_a_regression_of_a_hundredth_of_a_nat() -> None:
    runs, seen = 40, 0
    for seed in range(runs):
        evals = noisy([0.0] * 15 + [0.01], n=2000, noise=0.1, seed=seed)
        seen += trend(evals, "cross_entropy").state == "regressing"
    assert seen / runs >= 0.75  # 0.88 over many runs


def test_improvement_is_seen_while_it_lasts() -> None:
    states = looks(correct([0.1 + 0.04 * k for k in range(15)], n=400), "exact_match")
    assert states.count("improving") >= len(states) - 1
    assert "regressing" not in states
    assert "plateau" not in states


def test_a_run_that_still_improves_is_not_called_level() -> None:
    """Improving by twice the margin a window: a plateau is a false stop."""
    wrong = 0
    for seed in range(40):
        evals = noisy([-0.0025 * k for k in range(12)], n=1000, noise=0.1, seed=seed)
        wrong += trend(evals, "cross_entropy").state == "plateau"
    assert wrong <= 4


def test_evals_that_never_differ_name_a_number_of_samples_that_could_tell() -> None:
    import numpy as np

    from fettle.runs.records import FixedEval, SampleResults

    def constant(step: int) -> FixedEval:
        n = 40
        results = SampleResults(
            sample_id=np.array([str(i) for i in range(n)]),
            pattern=np.full(n, ""),
            cross_entropy_sum=np.ones(n),
            tokens=np.ones(n, dtype=np.int64),
            exact_match=np.zeros(n, dtype=np.bool_),
            entropy_sum=np.ones(n),
            bin_tokens=np.zeros((n, 10)),
            bin_confidence=np.zeros((n, 10)),
            bin_correct=np.zeros((n, 10)),
        )
        return FixedEval(step=step, exact_match=0.0, samples=n, per_sample=results)

    found = trend([constant(step) for step in (10, 20, 30, 40, 50)], "exact_match")
    assert found.state == "insufficient"
    # One sample of 200 is half a point, the margin.
    assert "about 200 could" in found.explanation
