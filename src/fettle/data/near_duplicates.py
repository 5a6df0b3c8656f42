"""Texts that are nearly the same: MinHash finds candidates, their words decide."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

# Jaccard similarity of word 5-grams from which two texts are called near-duplicates, as in
# Lee et al. 2022, "Deduplicating Training Data Makes Language Models Better".
NEAR = 0.8
SHINGLE_WORDS = 5
# Bands and rows of the sketch: a pair at 0.8 is a candidate with probability
# 1 - (1 - 0.8^4)^32 = 1 - 5e-8, one at 0.3 with 0.23. Candidates are compared word by word afterwards.
BANDS, ROWS = 32, 4


def normalised(text: str) -> str:
    """In lower case, with single spaces."""
    return re.sub(r"\s+", " ", text).strip().lower()


def near_duplicates(indexed: Sequence[str], asked: Sequence[str]) -> list[list[int]]:
    """Of each asked text the indices of its near-duplicates among the indexed ones, rising.

    A text of fewer than 5 words has none: for those only exact comparison applies.
    """
    from datasketch import MinHash, MinHashLSH

    indexed_shingles = [_shingles(text) for text in indexed]
    asked_shingles = indexed_shingles if asked is indexed else [_shingles(text) for text in asked]
    indexed_sketches = _sketches(MinHash, indexed_shingles)
    asked_sketches = indexed_sketches if asked is indexed else _sketches(MinHash, asked_shingles)
    index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    for i, sketch in enumerate(indexed_sketches):
        if indexed_shingles[i]:
            index.insert(i, sketch, check_duplication=False)
    found: list[list[int]] = []
    for shingles, sketch in zip(asked_shingles, asked_sketches, strict=True):
        candidates = cast("list[int]", index.query(sketch)) if shingles else []
        found.append(sorted(i for i in candidates if _jaccard(indexed_shingles[i], shingles) >= NEAR))
    return found


def _sketches(min_hash: Any, shingles: list[set[bytes]]) -> list[Any]:
    return list(min_hash.bulk(shingles, num_perm=BANDS * ROWS)) if shingles else []


def _jaccard(a: set[bytes], b: set[bytes]) -> float:
    return len(a & b) / len(a | b)


def _shingles(text: str) -> set[bytes]:
    words = normalised(text).split()
    return {" ".join(words[i : i + SHINGLE_WORDS]).encode() for i in range(len(words) - SHINGLE_WORDS + 1)}
