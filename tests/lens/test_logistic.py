"""Logistic lenses against scikit-learn, with rows and with folds left out."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fettle.lens.folds import group_folds
from fettle.lens.logistic import fit_logistic
from fettle.lens.problem import LensRows
from fettle.lens.standardise import standardisation
from lens_problems import clusters


def reference(rows: LensRows, lens: int, penalty: float, kept: np.ndarray) -> np.ndarray:
    standard = standardisation(rows.features[kept])
    z = (rows.features.astype(np.float64) - standard.mean) / standard.deviation
    y = np.isin(np.arange(len(rows)), rows.positive[lens])
    used = np.setdiff1d(kept, rows.excluded[lens])
    model = LogisticRegression(C=1 / (penalty * kept.size), tol=1e-8, max_iter=2000)
    return model.fit(z[used], y[used]).decision_function(z)


@pytest.mark.parametrize("penalty", [0.001, 0.1])
@pytest.mark.parametrize("features", [24, 300])
def test_logits_are_those_of_scikit_learn(penalty: float, features: int) -> None:
    related = np.zeros((6, 6), dtype=bool)
    related[0, 1] = related[1, 0] = True
    rows = clusters(features=features, related=related).rows("train")
    fitted = fit_logistic(rows, penalty).fitted(0, 6)
    for lens in range(6):
        expected = reference(rows, lens, penalty, np.arange(len(rows)))
        np.testing.assert_allclose(fitted[lens], expected, rtol=0.02, atol=0.02)


def test_held_out_logits_come_from_other_groups() -> None:
    rows = clusters(features=40).rows("train")
    fold_N = group_folds(rows)
    for group in np.unique(rows.groups):
        assert np.unique(fold_N[rows.groups == group]).size == 1
    held_out = fit_logistic(rows, 0.01).held_out(0, 6)
    for fold in range(5):
        expected = reference(rows, 3, 0.01, np.flatnonzero(fold_N != fold))
        here = np.flatnonzero(fold_N == fold)
        np.testing.assert_allclose(held_out[3, here], expected[here], atol=0.01)


def test_positives_of_each_lens_lie_in_several_folds() -> None:
    rows = clusters().rows("train")
    fold_N = group_folds(rows)
    assert all(np.unique(fold_N[positive]).size >= 4 for positive in rows.positive)
