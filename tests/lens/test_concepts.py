"""Concept packs: what is read, how concepts are related, what is refused."""

import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from fettle.errors import DataError
from fettle.lens.concept import Concept, as_words
from fettle.lens.concept_pack import ConceptPack
from fettle.lens.read_concepts import read_concepts
from fettle.lens.template_texts import template_texts

ANIMALS = ConceptPack(
    [
        Concept("Animal", children=("Bird",)),
        Concept("Dog", parents=("Pet", "Animal"), lemmas=("hound", "dog")),
        Concept("Cat", parents=("Pet",), opposites=("Dog",)),
        Concept("Bird", siblings=("Bat",)),
        Concept("Bat"),
        Concept("Pet", parents=("Animal",)),
    ]
)


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(value))
    return path


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    return path


def test_relations_go_both_ways_and_through_names_that_are_no_concepts() -> None:
    assert ANIMALS.ancestors("Dog") == {"Pet", "Animal"}
    assert ANIMALS.descendants("Animal") == {"Bird", "Dog", "Cat", "Pet"}
    assert ANIMALS.siblings("Dog") == {"Cat", "Bird", "Pet"}
    assert ANIMALS.siblings("Bat") == {"Bird"}
    assert ANIMALS.opposites("Dog") == {"Cat"}
    assert ANIMALS.branches("Dog") == {"Animal"}
    assert ANIMALS.branches("Bat") == {"Bat"}
    pack = ConceptPack([Concept("Joy", parents=("Feeling",)), Concept("Fear", parents=("Feeling",))])
    assert pack.siblings("Joy") == {"Fear"}
    assert pack.branches("Joy") == {"Feeling"}


@pytest.mark.parametrize("links", [[("A", "B"), ("B", "C"), ("C", "A")], [("A", "A")]])
def test_parents_in_a_circle_are_refused_with_the_way_round(links: list[tuple[str, str]]) -> None:
    names = [*(child for child, _ in links), "Free"]
    concepts = [Concept(name, parents=tuple(p for c, p in links if c == name)) for name in names]
    with pytest.raises(DataError, match="circle: .*" + " -> ".join(p for _, p in links[:1])):
        ConceptPack(concepts)


def test_two_ways_to_the_same_ancestor_are_no_circle() -> None:
    ConceptPack(
        [Concept("A", parents=("B", "C")), Concept("B", parents=("D",)), Concept("C", parents=("D",))]
    )


def test_a_name_that_stands_twice_is_refused() -> None:
    with pytest.raises(DataError, match="'Dog' stands there twice"):
        ConceptPack([Concept("Dog"), Concept("Cat"), Concept("Dog")])


def test_a_folder_of_layers_is_read(tmp_path: Path) -> None:
    top = {
        "layer": 0,
        "concepts": [{"sumo_term": "Animal", "category_children": ["Dog"], "lemmas": ["beast"]}],
    }
    dog = {
        "sumo_term": "Dog", "layer": 1, "definition": "a tame wolf", "parent_concepts": ["Animal"],
        "positive_examples": ["It barks."], "training_hints": {"negative_examples": ["It purrs."]},
        "relationships": {"antonyms": ["Cat"]},
    }  # fmt: skip
    write(tmp_path / "hierarchy" / "layer0.json", top)
    write(tmp_path / "hierarchy" / "layer1.json", {"layer": 1, "concepts": [dog]})
    write(tmp_path / "pack.json", {"version": 1})
    pack, texts = read_concepts(tmp_path)
    assert pack.names == ["Animal", "Dog"]
    assert pack.concepts["Animal"].depth == 0
    assert pack.concepts["Dog"].opposites == ("Cat",)
    assert [(t.text, t.label) for t in texts] == [("It barks.", True), ("It purrs.", False)]
    alone, _ = read_concepts(tmp_path / "hierarchy" / "layer1.json")
    assert alone.names == ["Dog"]
    assert alone.ancestors("Dog") == {"Animal"}


def test_one_concept_a_file_is_read(tmp_path: Path) -> None:
    famine = {
        "term": "Famine",
        "layer": 2,
        "parent_concepts": ["Crises"],
        "wordnet": {"lemmas": ["great_hunger"]},
    }
    write(tmp_path / "concepts" / "layer2" / "famine.json", famine)
    pack, _ = read_concepts(tmp_path)
    assert pack.concepts["Famine"].lexemes == ("famine", "great_hunger")
    assert pack.concepts["Famine"].depth == 2


def test_jsonl_holds_examples_and_descriptions(tmp_path: Path) -> None:
    file = lines(
        tmp_path / "pack.jsonl",
        {"concept": "Joy", "text": "We danced.", "label": 1, "template": "t1", "lexeme": "dance"},
        {"concept": "Joy", "text": "Rain again.", "label": 0},
        {"concept": "Fear", "parents": ["Feeling"], "definition": "what one runs from"},
        {"concept": "Fear", "text": "My hands shook."},
    )
    pack, texts = read_concepts(file)
    assert sorted(pack.names) == ["Fear", "Joy"]
    assert pack.concepts["Fear"].parents == ("Feeling",)
    assert [t.label for t in texts] == [True, False, True]
    assert texts[0].group == ("t1", "dance", "")
    assert texts[1].group == ("Rain again.",)


BROKEN = [
    ('{"concept": "A", "text": "x", "label": 2}', "label must be 1"),
    ('{"concept": "A", "text": " "}', "text must be a string"),
    ('{"text": "x"}', "names no concept"),
    ("[1]", "is no object"),
    ('{"concept": "A"', "is no JSON"),
    ('{"concept": "A", "parents": "B"}', "parents must be a list of strings"),
    ('{"concept": "A"}\n{"concept": "A"}', ":2: concept 'A' is described twice"),
    ("", "holds no concepts"),
]


@pytest.mark.parametrize(("content", "message"), BROKEN)
def test_a_broken_line_is_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "pack.jsonl"
    file.write_text(content)
    with pytest.raises(DataError, match=re.escape(message)):
        read_concepts(file)


def test_a_broken_pack_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        read_concepts(tmp_path / "none")
    file = write(tmp_path / "layer0.json", {"concepts": [{"sumo_term": "A"}, {"definition": "x"}]})
    with pytest.raises(DataError, match=r"layer0\.json: concepts\[1\] has no name"):
        read_concepts(file)
    file.write_text("{")
    with pytest.raises(DataError, match=r"layer0\.json: cannot be read"):
        read_concepts(tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [("DomesticAnimal", "domestic animal"), ("great_hunger", "great hunger"), ("AIRights", "AI rights"),
     ("NASA", "NASA"), ("two words", "two words")],
)  # fmt: skip
def test_terms_as_they_are_spoken(name: str, words: str) -> None:
    assert as_words(name) == words


def test_texts_from_words_definition_and_relations() -> None:
    pack = ConceptPack(
        [
            Concept("Dog", definition="a tame wolf.", parents=("Animal",), lemmas=("hound",)),
            Concept("Cat", parents=("Animal",)),
        ]
    )
    texts = [text for text in template_texts(pack) if text.concept == "Dog"]
    said = {text.text for text in texts}
    assert {"What is dog?", "What is hound?", "dog: a tame wolf.", "dog is a kind of animal."} <= said
    assert all(text.label for text in texts)
    # Nothing is said twice, and each template × lexeme is a group.
    assert len(said) == len(texts)
    assert len({text.group for text in texts}) == len(texts)
