"""From a file of concepts to the texts that lenses are trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fettle.lens.concept_pack import ConceptPack
from fettle.lens.corpus import Corpus, build_corpus
from fettle.lens.read_concepts import read_concepts
from fettle.lens.template_texts import template_texts

TextsFrom = Literal["auto", "examples", "all"]


def pack_corpus(path: Path, texts_from: TextsFrom = "auto") -> tuple[ConceptPack, Corpus]:
    """A pack and its texts, deduplicated and grouped.

    `examples` are those that the file gives; `all` adds those made from names, definitions and relations.
    `auto` is examples for JSONL, which holds what its author wants said, and all for packs. Raises DataError.
    """
    pack, texts = read_concepts(path)
    if texts_from == "all" or (texts_from == "auto" and path.suffix != ".jsonl"):
        texts = [*texts, *template_texts(pack)]
    return pack, build_corpus(pack, texts)
