"""Held-out examples that also stand in the training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fettle.data.example import Example, Message
from fettle.data.near_duplicates import near_duplicates, normalised

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
    """Compare two sets: exact after normalisation, and near-duplicates by their words."""
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
    twins = near_duplicates([_text(e.messages) for e in train], [_text(e.messages) for e in held_out])
    return [(e.line, train[found[0]].line) for e, found in zip(held_out, twins, strict=True) if found]


def _normalised(messages: Sequence[Message]) -> str:
    return normalised(_text(messages))


def _text(messages: Sequence[Message]) -> str:
    """What a conversation says, without roles."""
    return "\n".join(str(message.get("content") or "") for message in messages)
