"""Concepts from files: packs of HatCat, and plain JSONL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import orjson

from fettle.errors import DataError
from fettle.lens.concept import Concept
from fettle.lens.concept_pack import ConceptPack
from fettle.lens.text import Text

NAMES = ("sumo_term", "term")
CHILDREN = ("children", "category_children", "child_concepts")
Fields = Mapping[str, Any]


def read_concepts(path: Path) -> tuple[ConceptPack, list[Text]]:
    """A pack, and the texts that stand in it with a label.

    `path` is a folder or one file of a HatCat pack (`layerN.json` of `concepts`, or one concept a file),
    or JSONL: a line with `text` is an example (`concept`, `text`, `label`, and, where they are known,
    `template`, `lexeme`, `generator`), a line without describes its concept. Raises DataError that names
    file and place.
    """
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder of concepts")
    if path.suffix == ".jsonl":
        concepts, texts = _jsonl(path)
    else:
        files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        concepts, texts = [concept for file in files for concept in _of_file(file)], []
    pack = ConceptPack(concepts, str(path))
    given = [text for concept in pack.concepts.values() for text in _given(concept)]
    return pack, texts + given


def _given(concept: Concept) -> Iterator[Text]:
    """Examples that a concept brings along."""
    for label, texts in ((True, concept.positive), (False, concept.negative)):
        for text in texts:
            yield Text(text, concept.name, label, source="example")


def _of_file(file: Path) -> Iterator[Concept]:
    """Those of one JSON file; a file of something else in a folder holds none."""
    try:
        value: Any = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
    if not isinstance(value, dict):
        return
    fields = cast("Fields", value)
    depth = fields.get("layer")
    listed: Any = fields.get("concepts", [fields] if _name(fields) else [])
    if not isinstance(listed, list):
        raise DataError(f"{file}: concepts must be a list")
    for number, item in enumerate(cast("list[Any]", listed)):
        if not isinstance(item, dict) or not _name(cast("Fields", item)):
            raise DataError(f"{file}: concepts[{number}] has no name ({' or '.join(NAMES)})")
        yield _concept(cast("Fields", item), f"{file}: concepts[{number}]", depth)


def _concept(fields: Fields, where: str, depth: Any = None) -> Concept:
    hints = cast("Fields", fields.get("training_hints") or {})
    wordnet = cast("Fields", fields.get("wordnet") or {})
    relations = cast("Fields", fields.get("relationships") or {})

    def strings(*keys: str, among: Fields = fields) -> tuple[str, ...]:
        return tuple(dict.fromkeys(text for key in keys for text in _strings(among, key, where)))

    own_depth: Any = fields.get("layer", depth)
    return Concept(
        name=_name(fields),
        definition=str(fields.get("definition") or ""),
        depth=own_depth if isinstance(own_depth, int) else None,
        parents=strings("parent_concepts", "parents"),
        children=strings(*CHILDREN),
        siblings=strings("siblings"),
        opposites=(*strings("opposites", "antonyms"), *strings("antonyms", among=relations)),
        lemmas=(*strings("lemmas", "aliases"), *strings("lemmas", among=wordnet)),
        positive=(*strings("positive_examples"), *strings("positive_examples", among=hints)),
        negative=(*strings("negative_examples"), *strings("negative_examples", among=hints)),
        hints=dict(hints),
    )


def _name(fields: Fields) -> str:
    return next((str(fields[key]) for key in NAMES if fields.get(key)), "")


def _strings(fields: Fields, key: str, where: str) -> list[str]:
    value: Any = fields.get(key) or []
    if not isinstance(value, list) or not all(isinstance(v, str) for v in cast("list[Any]", value)):
        raise DataError(f"{where}: {key} must be a list of strings")
    return [text for text in cast("list[str]", value) if text.strip()]


def _jsonl(file: Path) -> tuple[list[Concept], list[Text]]:
    described: dict[str, Concept] = {}
    texts: list[Text] = []
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{file}:{number}"
        fields = _object(line, where)
        name = fields.get("concept")
        if not isinstance(name, str) or not name.strip():
            raise DataError(
                f'{where}: names no concept. A line is {{"concept": ..., "text": ..., "label": 1}}'
            )
        if "text" in fields:
            texts.append(_text(fields, name, where))
        elif name in described:
            raise DataError(f"{where}: concept '{name}' is described twice. Remove one of the lines")
        else:
            described[name] = _concept({**fields, "term": name}, where)
    for name in dict.fromkeys(text.concept for text in texts):
        described.setdefault(name, Concept(name))
    return list(described.values()), texts


def _object(line: bytes, where: str) -> Fields:
    try:
        value: Any = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise DataError(f"{where}: is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{where}: is no object")
    return cast("Fields", value)


def _text(fields: Fields, concept: str, where: str) -> Text:
    text, label = fields["text"], fields.get("label", 1)
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: text must be a string that says something")
    if label not in (0, 1):
        raise DataError(f"{where}: label must be 1 (the text shows the concept) or 0, not {label!r}")
    origin = {key: str(fields[key]) for key in ("template", "lexeme", "generator") if fields.get(key)}
    return Text(text, concept, bool(label), source="example", **origin)
