"""Example texts that a model writes: asked for once, kept in a file, and read from there ever after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson
from loguru import logger

from fettle.errors import DataError, RunError
from fettle.lens.concept_pack import ConceptPack
from fettle.lens.text import Text
from fettle.runs.json_object import parse_object

FILE = "generated.jsonl"
# {} is a word for the concept, with its definition where it has one. That the word itself is left out keeps
# a lens from reading the name off the text; the baselines beside it tell how far that went.
TEMPLATES = (
    "Write one sentence in which {} can be felt, without the word itself.",
    "Write the first sentence of a story about {}. Do not use the word.",
    "Write one line of a dialogue about {} that does not name it.",
    "Describe a scene that shows {} in one sentence, without naming it.",
    "Write a sentence from a diary about {}. Leave the word out.",
    "Write one sentence of a newspaper article about {}, in other words.",
    "Write a short message to a friend about {} that does not use the word.",
    "Write one sentence of a lecture about {} without naming it.",
    "Write a question that somebody who thinks of {} might ask. Leave the word out.",
    "Write one sentence of advice about {} that does not name it.",
    "Describe in one sentence what somebody does who is busy with {}. Do not name it.",
    "Write one sentence of an old letter about {}, without the word.",
)


@dataclass(frozen=True, slots=True)
class GeneratedFrom:
    """Which generated texts a pack is trained on."""

    file: str
    generator: str
    """Who wrote them: a model's folder or hub id, or its name at an endpoint."""
    per_concept: int


@dataclass(frozen=True, slots=True)
class Ask:
    """One text that is wanted."""

    concept: str
    template: str
    lexeme: str
    prompt: str
    number: int
    """Which of the answers to this prompt."""


OnText = Callable[[int, str], None]
"""Told the index of what was asked, and what was written."""


class Writer(Protocol):
    """Writes texts. Those that do not come are left out; a writer that cannot go on raises ModelError."""

    name: str

    def write(self, asks: Sequence[Ask], on_text: OnText) -> None: ...


def asks(pack: ConceptPack, per_concept: int) -> list[Ask]:
    """So many texts of every concept: templates in turn, then its next word, then all once more."""
    found: list[Ask] = []
    for concept in pack.concepts.values():
        for k in range(per_concept):
            again, template = divmod(k, len(TEMPLATES))
            number, word = divmod(again, len(concept.lexemes))
            lexeme = concept.lexemes[word]
            meaning = concept.definition.strip().rstrip(".")
            told = f"{lexeme} ({meaning})" if meaning else lexeme
            found.append(
                Ask(concept.name, TEMPLATES[template], lexeme, TEMPLATES[template].format(told), number)
            )
    return found


def generate_texts(pack: ConceptPack, source: GeneratedFrom, open_writer: Callable[[], Writer]) -> int:
    """Have those written that the file lacks, each kept as it comes; how many were written.

    The writer is opened where something is missing. Raises ModelError where it cannot go on, RunError where
    the file cannot be written.
    """
    path = Path(source.file)
    known = _read(path, source.generator)
    missing = [ask for ask in asks(pack, source.per_concept) if (ask.prompt, ask.number) not in known]
    if not missing:
        return 0
    writer, written = open_writer(), 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as stream:
            if stream.tell() and not path.read_bytes().endswith(b"\n"):
                stream.write(b"\n")  # The last one was cut off.

            def keep(index: int, text: str) -> None:
                nonlocal written
                written += 1
                stream.write(orjson.dumps(_line(missing[index], text, writer.name)) + b"\n")
                stream.flush()

            writer.write(missing, keep)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error
    if written < len(missing):
        logger.warning("{} of {} texts were not written: ask again", len(missing) - written, len(missing))
    return written


def generated_texts(pack: ConceptPack, source: GeneratedFrom) -> list[Text]:
    """Those of the file that are of this pack, as they are asked for. Raises DataError where it is gone."""
    path = Path(source.file)
    if not path.is_file():
        raise DataError(f"{path}: is gone; it held the texts that {source.generator} wrote")
    known = _read(path, source.generator)
    found = [(ask, known.get((ask.prompt, ask.number), "")) for ask in asks(pack, source.per_concept)]
    return [
        Text(
            text, ask.concept, True, "generated",
            template=ask.template, lexeme=ask.lexeme, generator=source.generator,
        )
        for ask, text in found
        if text
    ]  # fmt: skip


def tidied(said: str) -> str:
    """The first paragraph of what a model said, in one line, without quotes around it."""
    first = next((part for part in said.strip().split("\n") if part.strip()), "")
    return " ".join(first.split()).strip("\"“”'* ")


def _line(ask: Ask, text: str, generator: str) -> dict[str, Any]:
    return {
        "concept": ask.concept,
        "text": text,
        "label": 1,
        "template": ask.template,
        "lexeme": ask.lexeme,
        "generator": generator,
        "prompt": ask.prompt,
        "number": ask.number,
    }


def _read(path: Path, generator: str) -> dict[tuple[str, int], str]:
    """Texts of one generator by prompt and number; of a line that is cut off, nothing."""
    found: dict[tuple[str, int], str] = {}
    try:
        lines = path.read_bytes().splitlines() if path.is_file() else []
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    for line in lines:
        row = parse_object(line) or {}
        if row.get("generator") == generator and isinstance(row.get("text"), str):
            found.setdefault((str(row.get("prompt")), int(row.get("number") or 0)), row["text"])
    return found
