"""Ridge lenses against scikit-learn, refitted with rows and groups left out."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from fettle.lens.problem import LensProblem, LensRows
from fettle.lens.ridge import fit_ridge
from fettle.lens.standardise import standardisation
from lens_problems import clusters

PENALTY = 0.03


def family(concepts: int) -> np.ndarray:
    """Concept 0 is the parent of 1 and 2; the others are unrelated."""
    related = np.zeros((concepts, concepts), dtype=bool)
    related[0, 1:3] = related[1:3, 0] = True
    return related


def mixed_groups() -> LensProblem:
    """Groups of 1 to 7 rows, some of them across concepts."""
    problem = clusters(related=family(6), per_group=5)
    rng = np.random.default_rng(3)
    groups = problem.groups.copy()
    train = problem.sets["train"]
    groups[train] = 1000 + rng.integers(0, train.size // 3, train.size)
    return LensProblem(
        problem.concepts, problem.features, problem.positive, problem.excluded, groups, problem.sets
    )


def refitted(rows: LensRows, lens: int, left_out: np.ndarray) -> np.ndarray:
    """Scores of all rows by scikit-learn's ridge in float64, without the excluded and the left out rows."""
    standard = standardisation(rows.features)
    z = (rows.features.astype(np.float64) - standard.mean) / standard.deviation
    y = np.zeros(len(rows))
    y[rows.positive[lens]] = 1
    kept = np.setdiff1d(np.arange(len(rows)), np.concatenate([rows.excluded[lens], left_out]))
    return Ridge(alpha=PENALTY * len(rows), solver="cholesky").fit(z[kept], y[kept]).predict(z)


NOBODY = np.array([], dtype=np.int64)


@pytest.mark.parametrize("features", [24, 300], ids=["more rows than features", "more features than rows"])
def test_weights_are_those_of_scikit_learn_without_the_excluded_rows(features: int) -> None:
    problem = clusters(features=features, related=family(6))
    rows = problem.rows("train")
    fit = fit_ridge(rows, PENALTY)
    fitted = fit.fitted(0, 6)
    scores = fit.lenses.scores(rows.features)
    for lens in range(6):
        expected = refitted(rows, lens, NOBODY)
        np.testing.assert_allclose(scores[:, lens], expected, atol=1e-4)
        np.testing.assert_allclose(fitted[lens], expected, atol=1e-4)
    assert rows.excluded[0].size > rows.excluded[1].size > 0


def test_more_rows_are_excluded_than_there_are_features() -> None:
    related = np.zeros((6, 6), dtype=bool)
    related[0, 1:] = related[1:, 0] = True
    related[0, 5] = related[5, 0] = False
    problem = clusters(features=12, related=related, texts=60)
    rows = problem.rows("train")
    assert rows.excluded[0].size > 13 > rows.positive[0].size / 2
    np.testing.assert_allclose(fit_ridge(rows, PENALTY).fitted(0, 1)[0], refitted(rows, 0, NOBODY), atol=1e-4)


@pytest.mark.parametrize("bank", ["small", "large"])
def test_held_out_equals_refitting_without_the_group(bank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if bank == "large":
        monkeypatch.setattr("fettle.lens.ridge.EXACT_PRODUCTS", 0)
    rows = mixed_groups().rows("train")
    assert np.unique(np.unique(rows.groups, return_counts=True)[1]).size > 4
    held_out = fit_ridge(rows, PENALTY).held_out(0, 6)
    for lens in range(6):
        for group in np.unique(rows.groups):
            here = np.flatnonzero(rows.groups == group)
            kept = np.setdiff1d(here, rows.excluded[lens])
            error = np.abs(held_out[lens, kept] - refitted(rows, lens, here)[kept]).max(initial=0.0)
            positive = np.isin(here, rows.positive[lens]).any()
            exact = bank == "small" or positive or rows.excluded[lens].size == 0
            assert error < (1e-4 if exact else 0.2)


def test_a_slice_of_lenses_is_that_of_all() -> None:
    fit = fit_ridge(mixed_groups().rows("train"), PENALTY)
    np.testing.assert_allclose(fit.held_out(0, 6)[2:4], fit.held_out(2, 4), atol=1e-6)


def test_held_out_is_honest_where_fitted_is_not() -> None:
    """Features of pure noise: what was trained on looks found, what was not is chance."""
    problem = clusters(features=120, distance=0.0)
    rows = problem.rows("train")
    fit = fit_ridge(rows, 0.001)
    fitted, held_out = fit.fitted(0, 6), fit.held_out(0, 6)
    positive = np.stack([np.isin(np.arange(len(rows)), p) for p in rows.positive])
    assert (fitted[positive].mean() - fitted[~positive].mean()) > 0.5
    assert abs(held_out[positive].mean() - held_out[~positive].mean()) < 0.2


def test_a_massive_dimension_is_penalised_by_the_rounding_it_may_meet() -> None:
    problem = clusters()
    features = problem.features.copy()
    features[:, 5] = 900 + 2 * features[:, 5]
    rows = problem.with_features(features).rows("train")
    standard = standardisation(rows.features)
    z = (rows.features.astype(np.float64) - standard.mean) / standard.deviation
    variance = z.var(0)
    assert 0.2 < variance[5] < 0.9
    # A penalty of its own is a scale of its own.
    scaled = z * np.sqrt(PENALTY / (PENALTY + 1 - variance.clip(max=1)))
    y = np.isin(np.arange(len(rows)), rows.positive[0])
    expected = Ridge(alpha=PENALTY * len(rows), solver="cholesky").fit(scaled, y).predict(scaled)
    np.testing.assert_allclose(fit_ridge(rows, PENALTY).fitted(0, 1)[0], expected, atol=1e-4)
