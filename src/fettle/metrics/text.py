"""How near a predicted text is to the true one."""

from __future__ import annotations


def text_match(prediction: str, truth: str) -> bool:
    """Whether both are the same text, but for case and white space around it."""
    return prediction.strip().casefold() == truth.strip().casefold()


def character_error_rate(prediction: str, truth: str) -> float:
    """Edits per character of the truth: min(1, Levenshtein distance / length), in [0, 1].

    Where the truth is empty every predicted character is wrong: 1, and 0 for an empty prediction.
    """
    if not truth:
        return 1.0 if prediction else 0.0
    return min(1.0, edit_distance(prediction, truth) / len(truth))


def length_ratio(prediction: str, truth: str) -> float | None:
    """Characters of the prediction per character of the truth; None where the truth has none."""
    return len(prediction) / len(truth) if truth else None


def word_overlap(prediction: str, truth: str) -> float | None:
    """Share of the prediction's different words that stand in the truth, in [0, 1], whatever their case.

    Words are what white space separates. None where the prediction has none.
    """
    said = set(prediction.casefold().split())
    return len(said & set(truth.casefold().split())) / len(said) if said else None


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance: insertions, deletions and substitutions of characters that turn `a` into `b`.

    A column of the table is two integers, the bits of its steps up and down (Myers 1999, in the form of
    Hyyrö 2003), so that time grows with len(b) · len(a) / 64.
    """
    if not a or not b:
        return len(a) + len(b)
    at: dict[str, int] = {}
    for i, character in enumerate(a):
        at[character] = at.get(character, 0) | 1 << i
    every, last = (1 << len(a)) - 1, 1 << (len(a) - 1)
    up, down, distance = every, 0, len(a)
    for character in b:
        same = at.get(character, 0)
        diagonal = ((((same & up) + up) ^ up) | same | down) & every
        rises, falls = (down | ~(diagonal | up)) & every, up & diagonal
        distance += bool(rises & last) - bool(falls & last)
        rises = (rises << 1 | 1) & every
        up = (falls << 1 | ~(diagonal | rises)) & every
        down = rises & diagonal
    return distance
