"""Lenses on rows they have not seen, against scikit-learn on the same scores."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from sklearn import metrics as sk

from fettle.lens.judge import judge_held_out, judge_rows
from fettle.lens.ridge import fit_ridge
from lens_problems import clusters


def related_pair(concepts: int = 6) -> np.ndarray:
    related = np.zeros((concepts, concepts), dtype=bool)
    related[0, 1] = related[1, 0] = True
    return related


def test_held_out_results_are_those_of_out_of_group_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fettle.lens.judge.SCORES_AT_ONCE", 300)  # Batches of a few lenses.
    rows = clusters(related=related_pair()).rows("train")
    fit = fit_ridge(rows, 0.05)
    found = judge_held_out(fit, rows)
    scores, fitted = fit.held_out(0, 6), fit.fitted(0, 6)
    assert len(found) == 6
    for lens, result in enumerate(found):
        kept = np.setdiff1d(np.arange(len(rows)), rows.excluded[lens])
        y = np.isin(kept, rows.positive[lens])
        weight = np.where(y, 1 / y.sum(), 1 / (~y).sum())
        s = scores[lens, kept]
        assert result.auroc.value == pytest.approx(sk.roc_auc_score(y, s))
        assert result.f1 == pytest.approx(sk.f1_score(y, s >= result.threshold, sample_weight=weight))
        train_f1 = sk.f1_score(y, fitted[lens, kept] >= result.threshold, sample_weight=weight)
        assert result.gap == pytest.approx(train_f1 - result.f1)
        assert result.negative_mean == pytest.approx(s[~y].mean(), abs=1e-6)
        assert result.negative_deviation == pytest.approx(s[~y].std(), abs=1e-6)
        assert result.positives == y.sum()


def test_the_sealed_test_is_scored_with_the_thresholds_of_training() -> None:
    problem = clusters(related=related_pair())
    train, test = problem.rows("train"), problem.rows("test")
    fit = fit_ridge(train, 0.05)
    thresholds = [h.threshold for h in judge_held_out(fit, train)]
    found = judge_rows(fit.lenses, test, thresholds, prevalence=0.01)
    scores = fit.lenses.scores(test.features)
    for lens, result in enumerate(found):
        assert result is not None
        kept = np.setdiff1d(np.arange(len(test)), test.excluded[lens])
        y, s = np.isin(kept, test.positive[lens]), scores[kept, lens]
        weight = np.where(y, 1 / y.sum(), 1 / (~y).sum())
        assert result.auroc.value == pytest.approx(sk.roc_auc_score(y, s))
        assert result.f1.value == pytest.approx(sk.f1_score(y, s >= thresholds[lens], sample_weight=weight))


def test_f1_is_judged_on_judged_negatives_where_they_are_named() -> None:
    problem = clusters(noise=2.0)
    owner = problem.positive.toarray().argmax(1)
    # Lens c is judged against concept c + 1 alone.
    judged = sparse.csr_array(owner[:, None] == (np.arange(6) + 1) % 6)
    train = replace(problem, judged=judged).rows("train")
    fit = fit_ridge(train, 0.05)
    found = judge_held_out(fit, train)
    scores = fit.held_out(0, 6)
    for lens, result in enumerate(found):
        positive, others = scores[lens, train.positive[lens]], scores[lens, train.positive[(lens + 1) % 6]]
        y = np.repeat([1, 0], [positive.size, others.size])
        s = np.concatenate([positive, others])
        assert result.f1 == pytest.approx(max(sk.f1_score(y, s >= t) for t in s))
    tested = judge_rows(fit.lenses, train, [h.threshold for h in found], prevalence=0.1)
    everyone = judge_rows(fit.lenses, problem.rows("train"), [h.threshold for h in found], prevalence=0.1)
    assert [t.auroc for t in tested if t] == [e.auroc for e in everyone if e]
    assert [t.f1 for t in tested if t] != [e.f1 for e in everyone if e]
