"""Paired comparison: matching samples, standard errors, McNemar and max-T, against SciPy."""

import numpy as np
import pytest
from scipy import stats

from decide.fixed_evals import fixed_eval, hits
from fettle.decide import paired
from fettle.decide.paired import max_t, mcnemar, pair, worse_than_each


def rng_evals(k: int = 4, n: int = 120, seed: int = 0) -> list:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(3, 40, n)
    base = rng.gamma(2, 0.2, n)
    return [
        fixed_eval(100 * i, base + rng.normal(0, 0.1, n), rng.random(n) < 0.6, tokens=tokens)
        for i in range(k)
    ]


def test_values_of_the_path_are_those_of_the_evals() -> None:
    evals = rng_evals()
    for metric in ("exact_match", "cross_entropy"):
        path = pair(evals, metric)
        assert path is not None
        assert path.means == pytest.approx([getattr(e, metric) for e in evals])


def test_exact_match_difference_has_the_paired_t_error() -> None:
    a, b = rng_evals(2)
    path = pair([a, b], "exact_match")
    assert path is not None
    difference = b.per_sample.exact_match.astype(float) - a.per_sample.exact_match
    value, error = path.difference(1, 0)
    assert value == pytest.approx(difference.mean())
    assert error == pytest.approx(stats.sem(difference))


def test_cross_entropy_difference_agrees_with_a_paired_bootstrap() -> None:
    a, b = rng_evals(2, n=600)
    path = pair([a, b], "cross_entropy")
    assert path is not None
    value, error = path.difference(1, 0)
    d = b.per_sample.cross_entropy_sum - a.per_sample.cross_entropy_sum
    boot = stats.bootstrap(
        (d, a.per_sample.tokens),
        lambda s, t, axis: s.sum(axis) / t.sum(axis),
        paired=True,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    assert value == pytest.approx(b.cross_entropy - a.cross_entropy)
    assert error == pytest.approx(boot.standard_error, rel=0.05)


def test_samples_are_matched_by_id_not_by_place() -> None:
    ids = [f"s{i}" for i in range(50)]
    nats = np.linspace(0.1, 2, 50)
    shuffled = np.random.default_rng(0).permutation(50)
    a = fixed_eval(1, nats, ids=ids)
    b = fixed_eval(2, nats[shuffled] + 0.01, ids=[ids[i] for i in shuffled])
    path = pair([a, b], "cross_entropy")
    assert path is not None
    value, error = path.difference(1, 0)
    assert value == pytest.approx(0.01)
    assert error == pytest.approx(0, abs=1e-12)


def test_sample_missing_in_one_eval_is_left_out_of_all() -> None:
    nats = np.linspace(0.1, 2, 40)
    evals = [fixed_eval(k, nats + 0.1 * k) for k in range(3)]
    kept = np.arange(40) != 7
    evals[1] = fixed_eval(1, (nats + 0.1)[kept], ids=[f"s{i}" for i in range(40) if i != 7])
    path = pair(evals, "cross_entropy")
    assert path is not None
    assert path.samples == 39
    assert path.difference(2, 1)[0] == pytest.approx(0.1)


def test_eval_of_another_set_is_left_out() -> None:
    evals = [fixed_eval(k, np.linspace(0.1, 2, 40)) for k in range(3)]
    evals[0] = fixed_eval(0, np.ones(40), ids=[f"other{i}" for i in range(40)])
    path = pair(evals, "cross_entropy")
    assert path is not None
    assert path.steps == [1, 2]
    assert path.samples == 40


def test_a_text_that_stands_twice_is_paired_in_order() -> None:
    a = fixed_eval(1, [0.1, 0.9, 0.5], ids=["x", "x", "y"])
    b = fixed_eval(2, [0.5, 0.1, 0.9], ids=["y", "x", "x"])
    path = pair([a, b], "cross_entropy")
    assert path is not None
    assert path.samples == 3
    assert path.difference(1, 0) == pytest.approx((0.0, 0.0))


def test_nothing_to_pair() -> None:
    assert pair([], "cross_entropy") is None
    nan = fixed_eval(1, [np.nan, np.nan])
    assert pair([nan, fixed_eval(2, [1.0, 1.0])], "cross_entropy") is None


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (5, 0), (9, 3), (3, 9), (40, 20)])
def test_mcnemar_equals_the_binomial_test(lost: int, gained: int) -> None:
    expected = (
        stats.binomtest(gained, lost + gained, 0.5, alternative="less").pvalue if lost + gained else 1.0
    )
    assert mcnemar(lost, gained) == pytest.approx(expected)


def test_z_is_mcnemars_statistic() -> None:
    a, b = fixed_eval(1, right=hits(100, 50)), fixed_eval(2, right=np.arange(100) % 3 == 0)
    lost = int((hits(100, 50) & (np.arange(100) % 3 != 0)).sum())
    gained = int((~hits(100, 50) & (np.arange(100) % 3 == 0)).sum())
    path = pair([a, b], "exact_match")
    assert path is not None
    z, p = worse_than_each(path, lower_is_better=False)
    assert z[0] == pytest.approx((lost - gained) / np.sqrt(lost + gained))
    assert p[0] == pytest.approx(mcnemar(lost, gained))


def test_max_t_of_one_comparison_is_the_permutation_test() -> None:
    a, b = rng_evals(2, n=60, seed=3)
    path = pair([a, b], "cross_entropy")
    assert path is not None
    z, _ = worse_than_each(path, lower_is_better=True)
    largest = max_t(path, resamples=20_000)
    ours = (largest >= z[0]).mean()
    theirs = stats.permutation_test(
        (path.values[:, 1], path.values[:, 0]),
        lambda x, y, axis: (x - y).sum(axis),
        permutation_type="samples",
        alternative="greater",
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    ).pvalue
    assert ours == pytest.approx(theirs, abs=0.015)


def test_max_t_is_the_maximum_over_correlated_comparisons() -> None:
    # Twenty independent evals share the last one: correlation 1/2. 95 % of the one-sided maximum of
    # 19 such normals (Dunnett, many degrees of freedom) from SciPy's multivariate normal.
    rng = np.random.default_rng(1)
    evals = [fixed_eval(k, 5 + rng.normal(0, 1, 1500)) for k in range(20)]
    path = pair(evals, "cross_entropy")
    assert path is not None
    covariance = np.full((19, 19), 0.5) + 0.5 * np.eye(19)
    draws = stats.multivariate_normal(cov=covariance).rvs(50_000, random_state=0)
    expected = np.quantile(np.asarray(draws).max(1), 0.95)
    assert np.quantile(max_t(path, resamples=8_000), 0.95) == pytest.approx(expected, abs=0.1)


def test_max_t_in_blocks_is_the_same_kind_of_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    path = pair(rng_evals(5), "cross_entropy")
    assert path is not None
    whole = max_t(path)
    monkeypatch.setattr(paired, "RESAMPLED_AT_ONCE", 120 * 7)
    blocks = max_t(path)
    assert blocks.size == whole.size
    assert np.quantile(blocks, 0.9) == pytest.approx(np.quantile(whole, 0.9), abs=0.12)


def test_max_t_of_identical_evals_is_zero() -> None:
    path = pair([fixed_eval(k, np.ones(10)) for k in range(3)], "cross_entropy")
    assert path is not None
    assert max_t(path, resamples=10).tolist() == [0.0] * 10
