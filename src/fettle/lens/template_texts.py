"""Texts made from what a pack says of a concept: its definition, its words, its relations."""

from __future__ import annotations

from collections.abc import Iterator

from fettle.lens.concept import Concept, as_words
from fettle.lens.concept_pack import ConceptPack
from fettle.lens.text import Source, Text

# About a word: {} is one of the concept's lexemes.
WORD_TEMPLATES = (
    "What is {}?",
    "What does '{}' mean?",
    "Give me examples of {}.",
    "Explain {} to somebody who has never heard of it.",
    "Tell me about {}.",
    "Describe {} in a few sentences.",
    "Write a short paragraph about {}.",
    "Why does {} matter?",
    "How would you recognise {}?",
    "When did you last come across {}?",
    "Qu'est-ce que « {} » ?",
    "Was bedeutet „{}“?",
    "¿Qué significa «{}»?",
)
# With the definition: {} the lexeme, {definition} what it means.
DEFINITION_TEMPLATES = (
    "{}: {definition}.",
    "Which word means: {definition}?",
    "In one sentence, {} is {definition}.",
    "{definition}. Give examples.",
)
# With another concept: {} the lexeme, {other} the other's name.
PARENT_TEMPLATES = ("{} is a kind of {other}.", "What sets {} apart from {other} in general?")
CHILD_TEMPLATES = ("{other} is a kind of {}.", "Name a {} such as {other}.")
OTHERS = 3


def template_texts(pack: ConceptPack) -> list[Text]:
    """Positive texts of every concept, its first words and relations first.

    They name the concept, and texts of one template read alike: a lens trained on nothing else is measured
    against that by the baselines beside it.
    """
    return [text for concept in pack.concepts.values() for text in _of(concept, pack)]


def _of(concept: Concept, pack: ConceptPack) -> Iterator[Text]:
    for lexeme in concept.lexemes:
        for template in WORD_TEMPLATES:
            yield _text(concept, template, lexeme, "definition")
    definition = concept.definition.strip().rstrip(".")
    if definition:
        for template in DEFINITION_TEMPLATES:
            yield _text(concept, template, concept.lexemes[0], "definition", definition=definition)
    for templates, others in ((PARENT_TEMPLATES, pack.parents), (CHILD_TEMPLATES, pack.children)):
        for other in others[concept.name][:OTHERS]:
            for template in templates:
                yield _text(concept, template, concept.lexemes[0], "relation", other=as_words(other))


def _text(concept: Concept, template: str, lexeme: str, source: Source, **parts: str) -> Text:
    text = template.format(lexeme, **parts)
    return Text(text, concept.name, True, source, template=template, lexeme=lexeme)
