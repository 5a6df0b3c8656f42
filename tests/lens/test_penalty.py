"""The penalty is the one of the highest AUROC on rows put aside for the choice."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sk

from fettle.lens.penalty import choose_penalty
from fettle.lens.ridge import SharedBank, fit_ridge
from lens_problems import clusters


def test_the_chosen_penalty_is_best_on_the_select_set() -> None:
    problem = clusters(concepts=5, features=80, distance=2.0)
    train, select = problem.rows("train"), problem.rows("select")
    means = {}
    for penalty in (0.001, 0.1, 10.0):
        scores = fit_ridge(train, penalty).lenses.scores(select.features)
        labels = [~select.negative(c) for c in range(5)]
        means[penalty] = np.mean([sk.roc_auc_score(labels[c], scores[:, c]) for c in range(5)])
    penalty, mean = choose_penalty(problem, tuple(means))
    assert penalty == max(means, key=lambda p: means[p])
    assert mean == pytest.approx(max(means.values()))
    assert choose_penalty(problem, tuple(means), bank=SharedBank.of(train)) == (penalty, mean)


def test_the_sealed_test_has_no_say() -> None:
    problem = clusters(features=80, distance=2.0)
    features = problem.features.copy()
    for part in ("test", "calibrate"):
        features[problem.sets[part]] = 0
    assert choose_penalty(problem) == choose_penalty(replace(problem, features=features))
