"""Platt's sigmoid against scikit-learn's logistic regression on the same soft targets."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fettle.metrics import platt_scaling


def reference(positive: np.ndarray, negative: np.ndarray) -> tuple[float, float]:
    """Each row twice, as positive and negative, weighted by its soft target."""
    p, n = positive.size, negative.size
    target = np.repeat([(p + 1) / (p + 2), 1 / (n + 2)], [p, n])
    scores = np.tile(np.concatenate([positive, negative]), 2)[:, None]
    y = np.repeat([1, 0], p + n)
    model = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000)
    model.fit(scores, y, sample_weight=np.concatenate([target, 1 - target]))
    return float(model.coef_[0, 0]), float(model.intercept_[0])


@pytest.mark.parametrize(("positives", "negatives", "shift"), [(30, 500, 2.0), (8, 40, 0.3), (200, 200, 1.0)])
def test_equals_scikit_learn(positives: int, negatives: int, shift: float) -> None:
    rng = np.random.default_rng(positives)
    positive, negative = rng.normal(shift, 1, positives), rng.normal(0, 1, negatives)
    found = platt_scaling(positive, negative)
    assert found is not None
    assert (found.slope, found.intercept) == pytest.approx(reference(positive, negative), rel=1e-3, abs=1e-3)
    assert found.prevalence == positives / (positives + negatives)


def test_any_unit_of_the_scores_gives_the_same_probabilities() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(1.5, 1, 40), rng.normal(0, 1, 400)
    one = platt_scaling(positive, negative)
    other = platt_scaling(1e-4 * positive + 3, 1e-4 * negative + 3)
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(one.probability(positive), other.probability(1e-4 * positive + 3), atol=1e-6)


def test_separated_scores_stay_short_of_certainty() -> None:
    found = platt_scaling(np.full(10, 5.0), np.full(30, -5.0))
    assert found is not None
    assert found.probability(np.array([5.0, -5.0])) == pytest.approx([11 / 12, 1 / 32], abs=1e-4)


def test_constant_scores_give_the_prevalence_of_the_targets() -> None:
    found = platt_scaling(np.zeros(10), np.zeros(30))
    assert found is not None
    expected = (10 * 11 / 12 + 30 / 32) / 40
    assert found.probability(np.array([0.0])) == pytest.approx([expected])


def test_another_prevalence_shifts_the_odds() -> None:
    rng = np.random.default_rng(1)
    found = platt_scaling(rng.normal(1, 1, 100), rng.normal(0, 1, 100))
    assert found is not None
    even = found.probability(np.array([0.7]))[0]
    rare = found.probability(np.array([0.7]), prevalence=0.01)[0]
    assert rare / (1 - rare) == pytest.approx(even / (1 - even) * 0.01 / 0.99)


def test_one_class_has_no_sigmoid() -> None:
    assert platt_scaling(np.array([]), np.array([1.0])) is None
    assert platt_scaling(np.array([1.0]), np.array([])) is None
