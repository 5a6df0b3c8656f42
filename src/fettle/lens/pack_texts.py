"""From a file of concepts to the texts that lenses are trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from fettle.lens.concept_pack import ConceptPack
from fettle.lens.corpus import Corpus, build_corpus
from fettle.lens.generated_texts import GeneratedFrom, generated_texts
from fettle.lens.read_concepts import read_concepts
from fettle.lens.template_texts import template_texts

TextsFrom = Literal["auto", "examples", "all"]


def trained_corpus(path: Path, settings: Mapping[str, Any]) -> tuple[ConceptPack, Corpus]:
    """A pack and its texts as the settings of a training name them. Raises DataError."""
    generated: Any = settings.get("generated")
    return pack_corpus(path, settings["texts_from"], generated and GeneratedFrom(**generated))


def pack_corpus(
    path: Path, texts_from: TextsFrom = "auto", generated: GeneratedFrom | None = None
) -> tuple[ConceptPack, Corpus]:
    """A pack and its texts, those of `generated` among them, deduplicated and grouped.

    `examples` are those that the file gives; `all` adds those made from names, definitions and relations.
    `auto` is examples for JSONL, which holds what its author wants said, and all for packs. Raises DataError.
    """
    pack, texts = read_concepts(path)
    if texts_from == "all" or (texts_from == "auto" and path.suffix != ".jsonl"):
        texts = [*texts, *template_texts(pack)]
    if generated is not None:
        texts = [*texts, *generated_texts(pack, generated)]
    return pack, build_corpus(pack, texts)
