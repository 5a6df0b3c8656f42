"""Controls and baselines: chance where it should be, and a pack that a template wins is refused."""

import numpy as np
import pytest
from scipy import sparse

from fettle.errors import DataError
from fettle.lens.controls import (
    baseline,
    dense_features,
    gain,
    random_directions,
    refuse_templates,
    selectivity,
    shuffle,
    shuffled_labels,
)
from fettle.lens.judge import judge_held_out, judge_rows
from fettle.lens.problem import LensProblem
from fettle.lens.ridge import fit_ridge
from fettle.metrics import BinaryScores
from lens_problems import clusters


def lens_results(problem: LensProblem, penalty: float = 0.1) -> list[BinaryScores | None]:
    train = problem.rows("train")
    fit = fit_ridge(train, penalty)
    thresholds = [h.threshold for h in judge_held_out(fit, train)]
    return judge_rows(fit.lenses, problem.rows("test"), thresholds, prevalence=0.01)


def mean_auroc(results: list[BinaryScores | None]) -> float:
    return float(np.mean([r.auroc.value for r in results if r]))


def words(problem: LensProblem, telling: float, seed: int = 0) -> sparse.csr_array:
    """Counts of 60 words; each concept uses its own two more often, by `telling`."""
    rng = np.random.default_rng(seed)
    rate = np.full((problem.groups.size, 60), 0.3)
    owner = problem.positive.toarray().argmax(1)
    for k in range(2):
        rate[np.arange(owner.size), 2 * owner + k] += telling
    return sparse.csr_array(rng.poisson(rate))


def test_lenses_beat_shuffled_labels_and_random_directions() -> None:
    problem = clusters(concepts=12, features=60, distance=5.0)
    lenses = lens_results(problem)
    chance = {
        "shuffled": shuffled_labels(problem, 0.1, prevalence=0.01),
        "random": random_directions(problem, prevalence=0.01, seed=9),
    }
    assert mean_auroc(lenses) > 0.95
    assert mean_auroc(chance["shuffled"]) == pytest.approx(0.5, abs=0.1)
    assert mean_auroc(chance["random"]) == pytest.approx(0.5, abs=0.15)
    found = selectivity(lenses, chance)
    for lens in range(12):
        best = max(chance[name][lens].auroc.value for name in chance)
        assert found[lens] == pytest.approx(lenses[lens].auroc.value - best)


def test_shuffling_deals_the_labels_of_whole_groups() -> None:
    rows = clusters(concepts=4, texts=200, per_group=5).rows("train")
    dealt = shuffle(rows, np.random.default_rng(1))
    owner = np.full(len(rows), -1)
    for lens, positive in enumerate(dealt.positive):
        owner[positive] = lens
    assert [p.size for p in dealt.positive] == [p.size for p in rows.positive]
    for group in np.unique(rows.groups):
        assert np.unique(owner[rows.groups == group]).size == 1
    before = np.concatenate([[lens] * p.size for lens, p in enumerate(rows.positive)])
    after = owner[np.concatenate(rows.positive)]
    assert (before == after).mean() < 0.5


def test_words_that_tell_the_concept_are_a_strong_baseline() -> None:
    problem = clusters(concepts=8, distance=1.0)
    strong = baseline(problem, words(problem, 4.0), prevalence=0.01)
    weak = baseline(problem, words(problem, 0.0), prevalence=0.01)
    assert mean_auroc(strong) > 0.9
    assert mean_auroc(weak) == pytest.approx(0.5, abs=0.1)
    assert all(s is not None and s < 0 for s in selectivity(lens_results(problem), {"words": strong}))


def test_a_pack_on_which_the_template_wins_is_refused() -> None:
    problem = clusters(concepts=8, distance=1.0)
    lenses = lens_results(problem)
    with pytest.raises(DataError, match=r"the template alone reaches AUROC 0\.9"):
        refuse_templates(lenses, baseline(problem, words(problem, 4.0), prevalence=0.01))
    refuse_templates(
        lens_results(clusters(concepts=8, distance=5.0)),
        baseline(problem, words(problem, 0.0), prevalence=0.01),
    )


def test_gain_over_a_baseline_has_an_interval() -> None:
    problem = clusters(concepts=8, distance=4.0)
    lenses = lens_results(problem)
    same = gain(lenses, lenses)
    assert same is not None
    assert (same.value, same.low, same.high) == (0, 0, 0)
    over = gain(lenses, random_directions(problem, prevalence=0.01, seed=9))
    assert over is not None
    assert 0 < over.low < over.value < over.high
    assert gain([None], [None]) is None


def test_unmeasured_lenses_have_no_selectivity() -> None:
    lenses = lens_results(clusters(concepts=3))
    assert selectivity([None, *lenses[1:]], {"a": lenses})[0] is None
    assert selectivity(lenses, {"a": [None, *lenses[1:]]})[0] is None


def test_hashed_features_keep_inner_products() -> None:
    rng = np.random.default_rng(0)
    wide = sparse.csr_array(rng.poisson(0.002, (40, 30_000)))
    hashed = dense_features(wide)
    assert hashed.shape == (40, 2048)
    exact = (wide @ wide.T).toarray()
    assert np.corrcoef((hashed @ hashed.T).ravel(), exact.ravel())[0, 1] > 0.98
    narrow = dense_features(wide[:, :500])
    np.testing.assert_array_equal(narrow, wide[:, :500].toarray())


def test_features_of_other_texts_are_refused() -> None:
    with pytest.raises(DataError, match="features are"):
        baseline(clusters(concepts=4), sparse.csr_array((3, 5)), prevalence=0.1)
