"""Duplicates, groups and the four sets: nothing that is alike stands on two sides."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.data.near_duplicates import near_duplicates
from fettle.errors import DataError, RunError
from fettle.lens.concept import Concept
from fettle.lens.concept_pack import ConceptPack
from fettle.lens.corpus import Corpus, bare, build_corpus
from fettle.lens.dataset import LensDataset
from fettle.lens.splits import SETS, SealedTest, rows_hash, split
from fettle.lens.text import Text

WORDS = "river stone lamp quiet green winter market seven letter glass wolf paper engine salt".split()


def text(said: str, concept: str = "A", label: bool = True, **origin: str) -> Text:
    return Text(said, concept, label, "example", **origin)


def pack(*names: str) -> ConceptPack:
    return ConceptPack([Concept(name) for name in names])


def sentence(number: int) -> str:
    rng = np.random.default_rng(number)
    return " ".join(rng.choice(WORDS, 8)) + f" {number}"


def corpus(*texts: Text) -> Corpus:
    return build_corpus(pack(*dict.fromkeys(t.concept for t in texts)), texts)


def test_what_is_said_twice_is_one_text_that_shows_both() -> None:
    found = corpus(
        text("We danced all night.", "A"), text("we danced  all night", "B"), text("We danced all night.")
    )
    assert len(found) == 1
    assert found.rows[0].positive == {"A", "B"}
    assert found.duplicates == 2
    assert found.membership().toarray().tolist() == [[True, True]]


def test_a_text_with_both_labels_is_refused() -> None:
    with pytest.raises(DataError, match="labelled 1 and 0 for 'A'"):
        corpus(text("It rained."), text("It rained!", label=False))


def test_concepts_that_no_text_shows_are_refused() -> None:
    with pytest.raises(DataError, match="no text shows 'B'"):
        build_corpus(pack("A", "B"), [text("It rained."), text("Sun.", "B", label=False)])


LONG = "the quick brown fox jumps over the lazy dog while seven quiet wolves watch from the frozen river bank"


def test_a_near_duplicate_is_left_out_or_kept_beside_its_twin() -> None:
    found = corpus(text(LONG), text(f"{LONG} today"), text(f"{LONG} again", "B"), text("Another one."))
    assert [row.text for row in found.rows] == [LONG, f"{LONG} again", "Another one."]
    assert found.near_duplicates == 1
    assert found.groups[0] == found.groups[1] != found.groups[2]


def test_groups_are_template_by_lexeme_by_generator() -> None:
    origins = [("t", "w", "g"), ("t", "w", "g"), ("t", "w", "h"), ("t", "v", "g"), ("s", "w", "g")]
    texts = [text(sentence(i), template=t, lexeme=w, generator=g) for i, (t, w, g) in enumerate(origins)]
    groups = corpus(*texts).groups
    assert groups[0] == groups[1]
    assert len(set(groups.tolist())) == 4


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3), st.integers(0, 5), st.booleans()), min_size=12),
    st.integers(0, 99),
)
def test_no_group_and_no_duplicate_crosses_sets(rows: list[tuple[int, int, int, bool]], seed: int) -> None:
    texts = [text(sentence(i) + f" {k}", "A", template=str(g)) for k, (i, _, g, _) in enumerate(rows)]
    texts += [
        text(sentence(i) + (" x" if twin else ""), f"C{c}", **({"template": str(g)} if g else {}))
        for i, c, g, twin in rows
    ]
    texts += [text(sentence(1000 + i), "A") for i in range(8)]
    found = corpus(*texts)
    splits = split(found, seed=seed)
    for group in set(found.groups.tolist()):
        assert len(set(splits.sets[found.groups == group].tolist())) == 1
    said = [bare(t) for t in found.texts]
    assert len(set(said)) == len(said)
    for i, twins in enumerate(near_duplicates(said, said)):
        assert {int(splits.sets[j]) for j in twins} <= {int(splits.sets[i])}


def test_each_concept_has_its_share_of_each_set() -> None:
    texts = [text(sentence(100 * c + i), f"C{c}") for c in range(6) for i in range(50)]
    found = corpus(*texts)
    splits = split(found)
    membership = found.membership().toarray()
    counts = [[int(membership[splits.rows(name), c].sum()) for name in SETS] for c in range(6)]
    assert counts == [[20, 5, 5, 20]] * 6
    assert splits.lacking == {}
    assert not np.array_equal(splits.sets, split(found, seed=1).sets)
    assert np.array_equal(splits.sets, split(found).sets)


def test_a_concept_of_one_group_is_named_and_a_pack_of_such_is_refused() -> None:
    few = [text(sentence(i), "Few", template="t", lexeme="w") for i in range(9)]
    enough = [text(sentence(100 + i), "Enough") for i in range(9)]
    both = corpus(*few, *enough)
    assert set(split(both).lacking) == {"Few"}
    dataset = LensDataset(pack("Few", "Enough"), both, split(both))
    assert dataset.concepts == ["Enough"]
    assert "too few groups" in dataset.untrained["Few"]
    alone = corpus(*few)
    with pytest.raises(DataError, match=r"no concept can be trained\. 'Few': too few samples"):
        LensDataset(pack("Few"), alone, split(alone))


def test_the_test_opens_once_and_its_hash_tells_its_content() -> None:
    found = corpus(*(text(sentence(i)) for i in range(20)))
    splits = split(found)
    sealed = SealedTest(found, splits)
    rows = sealed.open()
    assert rows.tolist() == splits.rows("test").tolist()
    with pytest.raises(RunError, match="opened already"):
        sealed.open()
    assert sealed.hash == rows_hash(found, rows[::-1])
    assert sealed.hash != rows_hash(found, rows[1:])
    found.rows[rows[0]].negative.add("B")
    assert sealed.hash != rows_hash(found, rows)
