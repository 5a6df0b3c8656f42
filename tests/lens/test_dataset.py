"""What training sees of the texts: as many as asked for, in one order, and the test not before its time."""

from pathlib import Path

import numpy as np
import pytest

from fettle.lens.bank import Bank
from fettle.lens.concept import Concept
from fettle.lens.concept_pack import ConceptPack
from fettle.lens.corpus import build_corpus
from fettle.lens.dataset import LensDataset, Selection
from fettle.lens.problem import Part
from fettle.lens.splits import SETS, split
from fettle.lens.text import Text

PACK = ConceptPack([Concept("Bird"), Concept("Owl", parents=("Bird",)), Concept("Ship")])
IDENTITY = {"weights": "w", "spec": {"layers": [1, 2], "dtype": "float32"}}


@pytest.fixture
def dataset() -> LensDataset:
    texts = [
        Text(f"{name} text {i} {name * 2} {i * 7}", name, True, "example")
        for name in PACK.names
        for i in range(20)
    ]
    texts += [Text(f"nothing of it {i}", "Ship", False, "example") for i in range(10)]
    corpus = build_corpus(PACK, texts)
    return LensDataset(PACK, corpus, split(corpus))


@pytest.fixture
def bank(tmp_path: Path, dataset: LensDataset) -> Bank:
    bank = Bank(tmp_path, IDENTITY)
    rng = np.random.default_rng(0)
    with bank.writing():
        bank.add(dataset.corpus.texts, rng.normal(size=(len(dataset.corpus), 2, 5)).astype(np.float32))
    return bank


def test_concepts_get_the_texts_asked_for_and_more_are_added_to_them(dataset: LensDataset) -> None:
    assert dataset.available.tolist() == [8, 8, 8]
    few, more = (dataset.select(np.array(sizes)) for sizes in ([2, 3, 1], [4, 3, 8]))
    counts = [sum(name in few.rows[i].positive for i in few.places("train")) for name in PACK.names]
    assert counts == [2, 3, 1]
    assert set(few.texts) < set(more.texts)
    # Texts that show nothing are there from the start.
    denied = dataset.corpus.membership(label=False).sum(axis=1) > 0
    in_train = dataset.splits.sets == 0
    assert sum(bool(few.rows[i].negative) for i in few.places("train")) == (denied & in_train).sum() > 0


def test_what_lenses_are_chosen_by_stays_the_same_while_they_grow(dataset: LensDataset, bank: Bank) -> None:
    """Negatives of select and calibrate do not change with the training texts; those of training do."""
    few, more = (dataset.select(np.array(sizes)) for sizes in ([2, 3, 1], [8, 8, 8]))

    def judged(selection: Selection, part: Part) -> list[set[str]]:
        problem = dataset.problem(selection, bank, 2)
        assert problem.judged is not None
        rows = problem.sets[part]
        columns = problem.judged[rows].toarray().T
        return [{selection.texts[rows[k]] for k in np.flatnonzero(column)} for column in columns]

    for part in ("select", "calibrate"):
        assert judged(few, part) == judged(more, part)
        assert all(judged(few, part))
    assert judged(few, "train") != judged(more, "train")


def test_the_test_is_not_there_until_it_is_opened(dataset: LensDataset) -> None:
    sizes = dataset.available
    sealed = {dataset.corpus.texts[i] for i in dataset.splits.rows("test")}
    before, after = dataset.select(sizes), dataset.select(sizes, test=True)
    assert not sealed & set(before.texts)
    assert before.places("test").size == 0
    assert {after.texts[i] for i in after.places("test")} == sealed


def test_the_problem_is_that_of_the_texts(dataset: LensDataset, bank: Bank) -> None:
    selection = dataset.select(np.array([2, 3, 1]), test=True)
    problem = dataset.problem(selection, bank, 2)
    assert np.array_equal(problem.features, bank.read(selection.texts, 2))
    for i, row in enumerate(selection.rows):
        shown = {name for j, name in enumerate(problem.concepts) if problem.positive[i, j]}
        assert shown == row.positive
        assert problem.excluded[i, 0] == ("Owl" in row.positive)
    for name in SETS:
        texts = {selection.texts[i] for i in problem.sets[name]}
        assert texts <= {dataset.corpus.texts[i] for i in dataset.splits.rows(name)}
    rows = problem.rows("train")
    assert len(rows.positive[2]) == 1


def test_texts_without_a_vector_are_left_out(dataset: LensDataset, tmp_path: Path) -> None:
    selection = dataset.select(dataset.available)
    bank = Bank(tmp_path, IDENTITY)
    with bank.writing():
        bank.add(selection.texts[1:], np.ones((len(selection.texts) - 1, 2, 5), dtype=np.float32))
        bank.skip(selection.texts[0], "its answer is empty")
    within = dataset.within(selection, bank)
    assert within.texts == selection.texts[1:]
    assert sum(within.places(name).size for name in SETS) == len(within.texts)
