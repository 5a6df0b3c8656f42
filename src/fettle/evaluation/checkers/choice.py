"""Multiple choice: the letter an answer settles on, or the choice a model finds likeliest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

import numpy as np

from fettle.config.checkers import ChoiceConfig
from fettle.evaluation.checkers.check import Check, Checker, Reference
from fettle.metrics.normalise import squad

# The letter stands where an answer begins or ends; what lies between is its reasoning.
SEARCHED = 20_000


@dataclass(frozen=True, slots=True)
class ChoiceRanking:
    """Which of C choices is likeliest, three ways; each is an index."""

    by_sum: int
    """By log-probability: lm-evaluation-harness's `acc`."""
    by_character: int
    """By log-probability per character of the choice: its `acc_norm`."""
    by_byte: int
    """By log-probability per byte in UTF-8: its `acc_bytes`."""
    probability: list[float]
    """Of each choice among these, from the sums, [C]."""


def rank_choices(logprob_sum_C: Sequence[float], choices: Sequence[str]) -> ChoiceRanking | None:
    """Ranks choices by the summed log-probability of each after the question; of equal ones the first.

    Lengths count the text of a choice without the space before it. None where a sum is not finite or a
    choice is empty: that was not measured.
    """
    sums_C = np.asarray(logprob_sum_C, dtype=np.float64)
    if sums_C.size != len(choices) or not sums_C.size:
        raise ValueError(f"{sums_C.size} sums do not belong to {len(choices)} choices")
    if not np.isfinite(sums_C).all() or not all(choices):
        return None
    characters_C = np.array([len(choice) for choice in choices])
    bytes_C = np.array([len(choice.encode()) for choice in choices])
    weight_C = np.exp(sums_C - sums_C.max())
    return ChoiceRanking(
        int(sums_C.argmax()),
        int((sums_C / characters_C).argmax()),
        int((sums_C / bytes_C).argmax()),
        (weight_C / weight_C.sum()).tolist(),
    )


def choice(config: ChoiceConfig) -> Checker:
    """Right where the answer settles on the letter of the reference, or says that choice's text."""

    def check(answer: str, against: Reference) -> Check:
        listed = [str(text) for text in against.fields.get(config.choices_field, ())]
        letters = ascii_uppercase[: len(listed) or config.choices]
        right = right_letter(against.right(config.reference_field), letters, listed)
        if right is None:
            return Check(None, f"the reference names none of the choices {letters[0]} to {letters[-1]}")
        said = said_letter(answer, letters, listed)
        if said is None:
            return Check(False, "no choice found", formatted=False)
        return Check(said == right, None if said == right else f"{said} instead of {right}", formatted=True)

    return check


def right_letter(text: str, letters: str, choices: Sequence[str]) -> str | None:
    """The letter that a reference means: itself, a choice's text, or an index from 0."""
    text = text.strip()
    if text in choices:
        return letters[list(choices).index(text)]
    if text.isdecimal():
        return letters[int(text)] if len(text) < 4 and int(text) < len(letters) else None
    return said_letter(text, letters, choices)


def said_letter(text: str, letters: str, choices: Sequence[str] = ()) -> str | None:
    """The letter an answer settles on; None where it names none.

    In this order: the answer begins with it; the last "answer is X" or boxed X; the text of one choice;
    the last letter in brackets or by itself. The article A and the pronoun I are no letters.
    """
    text = text.strip()
    text = text if len(text) <= 2 * SEARCHED else f"{text[:SEARCHED]} {text[-SEARCHED:]}"
    one = f"[{letters}]"
    if begins := re.match(rf"[\s*_(\[\"']*({one})(?:[\s*_\"']*$|[)\].:,*_])", text):
        return begins[1]
    if re.fullmatch(rf"[{letters.lower()}]\W?", text):
        return text[0].upper()
    named = rf"(?i:\b(?:answer|choice|option)(?: is)?)\W{{0,6}}({one})\b|\\boxed{{\W?(?:\\text{{)?({one})\W"
    if found := re.findall(named, text):
        return next(filter(None, found[-1]))
    same = [letter for letter, said in zip(letters, choices, strict=False) if squad(said) == squad(text)]
    if len(same) == 1 and squad(text):
        return same[0]
    alone = re.findall(rf"\(({one})\)|(?<![\w'])(?![AI]\s+[a-z])({one})(?![\w'])", text)
    return next(filter(None, alone[-1])) if alone else None
