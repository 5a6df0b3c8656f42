"""Held-out examples that also stand in the training data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from fettle.data.example import Example

# Jaccard similarity of word 5-grams from which two texts are called near-duplicates, as in
# Lee et al. 2022, "Deduplicating Training Data Makes Language Models Better".
NEAR = 0.8
SHINGLE_WORDS = 5
# Bands and rows of the sketch: a pair at 0.8 is a candidate with probability
# 1 - (1 - 0.8^4)^32 = 1 - 5e-8, one at 0.3 with 0.23. Candidates are compared word by word afterwards.
BANDS, ROWS = 32, 4
SHOWN_PAIRS = 5


@dataclass(frozen=True, slots=True)
class Leakage:
    """How many held-out examples the training data gives away."""

    samples: int
    """Held-out examples looked at."""
    exact: int
    """Of these, the whole conversation stands in training, but for case and spaces."""
    near: int
    """Of the rest, a training example shares at least 80 % of the word 5-grams."""
    same_prompt: int
    """Of the rest, the prompt stands in training with another answer."""
    pairs: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """Line numbers (held-out, training) of some of them."""

    def message(self) -> str:
        """One line for a person."""
        lines = ", ".join(f"line {held} = training line {train}" for held, train in self.pairs)
        return (
            f"{self.exact} of {self.samples} held-out examples stand in the training data and {self.near} "
            f"more nearly do ({lines}): exact match and loss on them measure memory. "
            "Take them out of one of the sets."
        )


def leakage(train: Sequence[Example], held_out: Sequence[Example]) -> Leakage:
    """Compare two sets: exact after normalisation, and near-duplicates by MinHash LSH, then verified."""
    whole = {_normalised(e.messages): e for e in reversed(train)}
    prompts = {_normalised(e.prompt) for e in train}
    exact: list[tuple[int, int]] = []
    rest: list[Example] = []
    for example in held_out:
        twin = whole.get(_normalised(example.messages))
        if twin is None:
            rest.append(example)
        else:
            exact.append((example.line, twin.line))
    near = _near_duplicates(train, rest)
    near_lines = {held for held, _ in near}
    same_prompt = sum(e.line not in near_lines and _normalised(e.prompt) in prompts for e in rest)
    return Leakage(len(held_out), len(exact), len(near), same_prompt, (exact + near)[:SHOWN_PAIRS])


def _near_duplicates(train: Sequence[Example], held_out: Sequence[Example]) -> list[tuple[int, int]]:
    from datasketch import MinHash, MinHashLSH

    train_shingles = [_shingles(e) for e in train]
    held_shingles = [_shingles(e) for e in held_out]
    index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    for i, sketch in enumerate(_sketches(MinHash, train_shingles)):
        if train_shingles[i]:
            index.insert(i, sketch, check_duplication=False)
    found: list[tuple[int, int]] = []
    for j, sketch in enumerate(_sketches(MinHash, held_shingles)):
        if not held_shingles[j]:
            continue
        candidates = cast("list[int]", index.query(sketch))
        twins = [i for i in candidates if _jaccard(train_shingles[i], held_shingles[j]) >= NEAR]
        if twins:
            found.append((held_out[j].line, train[min(twins)].line))
    return found


def _sketches(min_hash: Any, shingles: list[set[bytes]]) -> list[Any]:
    return list(min_hash.bulk(shingles, num_perm=BANDS * ROWS)) if shingles else []


def _jaccard(a: set[bytes], b: set[bytes]) -> float:
    return len(a & b) / len(a | b)


def _shingles(example: Example) -> set[bytes]:
    """Word 5-grams; a text shorter than one has none, and only exact comparison applies."""
    words = _normalised(example.messages).split()
    return {" ".join(words[i : i + SHINGLE_WORDS]).encode() for i in range(len(words) - SHINGLE_WORDS + 1)}


def _normalised(messages: Sequence[dict[str, Any]]) -> str:
    """Texts without roles, in lower case, with single spaces."""
    text = "\n".join(str(message.get("content") or "") for message in messages)
    return re.sub(r"\s+", " ", text).strip().lower()
