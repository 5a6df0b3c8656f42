"""What a lens problem refuses, and the order of its rows."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from fettle.errors import DataError
from fettle.lens.problem import exclude_relatives
from lens_problems import clusters


def test_rows_stand_by_group_size_and_keep_their_labels() -> None:
    problem = clusters(per_group=5)
    rng = np.random.default_rng(0)
    groups = problem.groups.copy()
    groups[problem.sets["train"]] = 1000 + rng.integers(0, 40, problem.sets["train"].size)
    rows = replace(problem, groups=groups).rows("train")
    sizes = np.bincount(rows.groups)
    assert (np.diff(rows.groups) >= 0).all()
    assert (np.diff(sizes) >= 0).all()
    assert sorted(rows.index) == problem.sets["train"].tolist()
    np.testing.assert_array_equal(rows.features, problem.features[rows.index])
    for lens in range(6):
        expected = problem.positive[rows.index].toarray()[:, lens]
        assert np.flatnonzero(expected).tolist() == rows.positive[lens].tolist()
        assert (rows.negative(lens) == ~expected).all()
    for _, here in zip(range(40), np.unique(groups[rows.index]), strict=False):
        assert np.unique(rows.groups[groups[rows.index] == here]).size == 1


def test_texts_of_relatives_are_excluded_but_not_the_concepts_own() -> None:
    # Concept 0 is the parent of 1; text 2 shows both.
    positive = sparse.csr_array(np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=bool))
    related = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=bool)
    found = exclude_relatives(positive, related).toarray()
    assert found.tolist() == [[False, True, False], [True, False, False], [False] * 3, [False] * 3]


def test_an_activation_with_nan_is_refused() -> None:
    problem = clusters()
    features = problem.features.copy()
    features[17, 3] = np.nan
    with pytest.raises(DataError, match="text 17 is not finite, one of 1"):
        problem.with_features(features)


def test_a_group_in_two_sets_is_refused() -> None:
    problem = clusters()
    groups = problem.groups.copy()
    groups[problem.sets["test"][0]] = groups[problem.sets["train"][0]]
    with pytest.raises(DataError, match="stands in 'train' and in 'test'"):
        replace(problem, groups=groups)


def test_a_concept_named_twice_is_refused() -> None:
    with pytest.raises(DataError, match="concept 'a' stands twice"):
        replace(clusters(concepts=3), concepts=["a", "b", "a"])


@pytest.mark.parametrize("missing", ["positive", "negative"])
def test_a_set_of_one_class_is_refused(missing: str) -> None:
    problem = clusters(concepts=3)
    labels = problem.positive.toarray()
    labels[problem.sets["calibrate"], 1] = missing == "negative"
    with pytest.raises(DataError, match=f"1 concepts have no {missing} text in 'calibrate', 'concept 1'"):
        replace(problem, positive=sparse.csr_array(labels))


def test_labels_for_other_texts_are_refused() -> None:
    problem = clusters()
    with pytest.raises(DataError, match="'excluded' is"):
        replace(problem, excluded=problem.excluded[:5])
    with pytest.raises(DataError, match="features are"):
        problem.with_features(problem.features[:5])
