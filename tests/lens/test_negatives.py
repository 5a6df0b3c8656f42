"""Which texts are negatives of which lens."""

import numpy as np
import pytest

from fettle.lens.concept import Concept
from fettle.lens.concept_pack import ConceptPack
from fettle.lens.corpus import Corpus, build_corpus
from fettle.lens.negatives import JudgedNegatives, excluded
from fettle.lens.splits import SETS, split
from fettle.lens.text import Text

# Feeling -> Joy, Fear (-> Panic), Anger; Weather -> Rain, Snow; opposite of Joy: Fear.
PACK = ConceptPack(
    [
        Concept("Feeling"),
        Concept("Joy", parents=("Feeling",), opposites=("Fear",)),
        Concept("Fear", parents=("Feeling",)),
        Concept("Panic", parents=("Fear",)),
        Concept("Anger", parents=("Feeling",)),
        Concept("Weather"),
        Concept("Rain", parents=("Weather",)),
        Concept("Snow", parents=("Weather",)),
    ]
)


def texts(each: int) -> list[Text]:
    return [
        Text(f"{name} number {i} {name[::-1]}", name, True, "example")
        for name in PACK.names
        for i in range(each)
    ]


def shown(corpus: Corpus, rows: object) -> set[str]:
    return {name for row in np.atleast_1d(np.asarray(rows)) for name in corpus.rows[int(row)].positive}


def test_ancestors_and_descendants_are_no_negatives() -> None:
    corpus = build_corpus(PACK, texts(2))
    barred = excluded(PACK, corpus).toarray()
    by_name = {name: shown(corpus, np.flatnonzero(barred[:, j])) for j, name in enumerate(corpus.concepts)}
    assert by_name["Fear"] == {"Feeling", "Panic"}
    assert by_name["Panic"] == {"Fear", "Feeling"}
    assert by_name["Feeling"] == {"Joy", "Fear", "Panic", "Anger"}
    assert by_name["Rain"] == {"Weather"}


def test_a_text_that_shows_both_is_positive_for_both() -> None:
    both = [Text("A text of both", name, True, "example") for name in ("Fear", "Panic")]
    corpus = build_corpus(PACK, [*texts(2), *both])
    row = corpus.texts.index("A text of both")
    barred = dict(zip(corpus.concepts, excluded(PACK, corpus).toarray()[row].tolist(), strict=True))
    assert not barred["Fear"]
    assert not barred["Panic"]
    assert barred["Feeling"]


def test_a_text_said_to_miss_a_concept_may_show_its_neighbours() -> None:
    denied = Text("Not that one.", "Joy", False, "example")
    told = Text("Fear it is not, nor panic.", "Panic", False, "example")
    corpus = build_corpus(PACK, [*texts(2), denied, told])
    barred = excluded(PACK, corpus).toarray()
    names = np.array(corpus.concepts)
    assert set(names[barred[corpus.texts.index("Not that one.")]]) == {"Feeling", "Fear", "Anger"}
    assert set(names[barred[corpus.texts.index(told.text)]]) == {"Fear", "Feeling"}


@pytest.mark.parametrize("near_share", [0.5, 0.25, 1.0])
def test_lenses_are_judged_half_by_neighbours_and_half_by_other_branches(near_share: float) -> None:
    corpus = build_corpus(PACK, texts(20))
    splits = split(corpus)
    judged = JudgedNegatives(PACK, corpus, ratio=1.0, near_share=near_share).of(splits.sets).toarray()
    assert not (judged & corpus.membership().toarray()).any()
    assert not (judged & excluded(PACK, corpus).toarray()).any()
    joy = corpus.concepts.index("Joy")
    for part, positives in zip(range(len(SETS)), (8, 2, 2, 8), strict=True):
        rows = np.flatnonzero(judged[:, joy] & (splits.sets == part))
        near = [row for row in rows if shown(corpus, row) <= {"Fear", "Anger"}]
        distant = [row for row in rows if shown(corpus, row) <= {"Weather", "Rain", "Snow"}]
        assert len(rows) == positives
        assert len(near) == round(near_share * positives)
        assert len(distant) == positives - len(near)


def test_what_is_short_is_filled_up_and_said_negatives_come_first() -> None:
    said = Text("Labelled as none of it.", "Weather", False, "example")
    corpus = build_corpus(PACK, [*texts(20), said])
    splits = split(corpus)
    judged = JudgedNegatives(PACK, corpus, ratio=2.0).of(splits.sets).toarray()
    column = judged[:, corpus.concepts.index("Weather")]
    assert column[corpus.texts.index(said.text)]
    # Weather has no siblings: all come from the other branch.
    assert column.sum() == 40
    rain = judged[:, corpus.concepts.index("Rain")] & (splits.sets == 0)
    near = sum(shown(corpus, row) == {"Snow"} for row in np.flatnonzero(rain))
    assert (near, rain.sum()) == (8, 16)
    again = JudgedNegatives(PACK, corpus, ratio=2.0).of(splits.sets).toarray()
    assert np.array_equal(judged, again)


def test_more_negatives_are_drawn_only_as_long_as_both_kinds_keep_their_share() -> None:
    corpus = build_corpus(PACK, texts(20))
    splits = split(corpus)
    judged = JudgedNegatives(PACK, corpus).of(splits.sets).toarray()
    counts = {name: int(judged[splits.rows("test"), j].sum()) for j, name in enumerate(corpus.concepts)}
    # Of 8 positives: Joy has 16 texts of siblings and 24 of the other branch; Rain 8 of Snow and 40;
    # Feeling no siblings at all, and 24.
    assert (counts["Joy"], counts["Rain"], counts["Feeling"]) == (32, 16, 24)
    only_test = np.where(splits.sets == 3, splits.sets, -1).astype(np.int8)
    alone = JudgedNegatives(PACK, corpus).of(only_test).toarray()
    assert np.array_equal(alone[splits.rows("test")], judged[splits.rows("test")])
