"""Probabilities of lenses: fitted on one set, believed on another."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from fettle.lens.probability import fit_probabilities, judge_probabilities
from fettle.lens.ridge import fit_ridge
from lens_problems import clusters


def test_probabilities_are_calibrated_on_rows_they_were_not_fitted_on() -> None:
    related = np.zeros((6, 6), dtype=bool)
    related[0, 1] = related[1, 0] = True
    problem = clusters(texts=400, distance=2.5, per_group=1, related=related)
    lenses = fit_ridge(problem.rows("train"), 0.1).lenses
    platts = fit_probabilities(lenses, problem.rows("calibrate"))
    test = problem.rows("test")
    found = judge_probabilities(lenses, platts, test)
    scores = lenses.scores(test.features)
    for lens, (platt, judged) in enumerate(zip(platts, found, strict=True)):
        assert platt is not None
        kept = np.setdiff1d(np.arange(len(test)), test.excluded[lens])
        y = np.isin(kept, test.positive[lens])
        expected = brier_score_loss(y, platt.probability(scores[kept, lens]))
        assert judged.brier == pytest.approx(expected, abs=1e-6)
        assert judged.brier < y.mean() * (1 - y.mean()) * 0.8  # Better than saying the prevalence.
        assert judged.expected_calibration_error < 0.05


def test_what_was_not_measured_is_none() -> None:
    problem = clusters()
    lenses = fit_ridge(problem.rows("train"), 0.1).lenses
    test = problem.rows("test")
    found = judge_probabilities(lenses, [None] * 6, test)
    assert {(b.brier, b.expected_calibration_error) for b in found} == {(None, None)}
