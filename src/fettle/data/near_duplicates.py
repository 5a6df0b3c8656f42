"""Texts that are nearly the same, found exactly: by the rare words-in-a-row that they must have in common."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence

import xxhash

# Jaccard similarity of word 5-grams from which two texts are called near-duplicates, as in
# Lee et al. 2022, "Deduplicating Training Data Makes Language Models Better".
NEAR = 0.8
SHINGLE_WORDS = 5


def normalised(text: str) -> str:
    """In lower case, with single spaces."""
    return re.sub(r"\s+", " ", text).strip().lower()


def near_duplicates(indexed: Sequence[str], asked: Sequence[str]) -> list[list[int]]:
    """Of each asked text the indices of its near-duplicates among the indexed ones, rising.

    A text of fewer than 5 words has none: for those only exact comparison applies. Prefix filtering (Bayardo
    et al. 2007, "Scaling Up All Pairs Similarity Search"): of two sets with similarity t, each lacks at most
    the share 1 - t of its own, so in any common order their beginnings of that length meet; with rare
    shingles first they meet seldom by chance.
    """
    indexed_shingles = [_shingles(text) for text in indexed]
    asked_shingles = indexed_shingles if asked is indexed else [_shingles(text) for text in asked]
    frequency = Counter(shingle for shingles in indexed_shingles for shingle in shingles)

    def rare_first(shingle: int) -> tuple[int, int]:
        return frequency[shingle], shingle

    places: dict[int, list[int]] = {}
    for i, shingles in enumerate(indexed_shingles):
        for shingle in _beginning(shingles, rare_first):
            places.setdefault(shingle, []).append(i)
    found: list[list[int]] = []
    for shingles in asked_shingles:
        met = {i for shingle in _beginning(shingles, rare_first) for i in places.get(shingle, ())}
        found.append(sorted(i for i in met if _jaccard(indexed_shingles[i], shingles) >= NEAR))
    return found


def _beginning(shingles: set[int], order: Callable[[int], tuple[int, int]]) -> list[int]:
    """So many of the first as two near-duplicates cannot both lack in common."""
    # A product such as 0.8 · 5 must not rise above 4 by rounding.
    shared = math.ceil(NEAR * len(shingles) - 1e-9)
    return sorted(shingles, key=order)[: len(shingles) - shared + 1]


def _jaccard(a: set[int], b: set[int]) -> float:
    return len(a & b) / len(a | b)


def _shingles(text: str) -> set[int]:
    """64-bit hashes of its word 5-grams."""
    words = normalised(text).split()
    ngrams = (" ".join(words[i : i + SHINGLE_WORDS]) for i in range(len(words) - SHINGLE_WORDS + 1))
    return {xxhash.xxh3_64_intdigest(ngram.encode()) for ngram in ngrams}
