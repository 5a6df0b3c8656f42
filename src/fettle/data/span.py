"""Where an answer begins and ends in a rendered conversation: arithmetic on strings."""

from __future__ import annotations

import re

Span = tuple[int, int]
PRIVATE_USE = range(0xE000, 0xF8FF)


def placeholder_for(text: str) -> str:
    """A character of the private use area that `text` does not hold, so that nothing else can match it."""
    held = set(text)
    return next(chr(code) for code in PRIVATE_USE if chr(code) not in held)


def common_prefix(a: str, b: str) -> int:
    """Number of leading characters that two strings share."""
    low, high = 0, min(len(a), len(b))
    while low < high:  # Halving compares whole stretches, many times faster than character by character.
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def answer_start(probe: str, generation_prompt: str, *, before: int, shared: int, at: int) -> int | None:
    """Where the answer starts, in the text and in the probe alike; None where they disagree before it.

    `probe` is the conversation with a placeholder at `at`; text and probe share the
    first `shared` characters; the answer before this one ends at `before`. The answer
    starts behind the generation prompt, so that a think block between it and the words
    belongs to the answer; or where the placeholder stands, if this turn is rendered
    without that prompt.
    """
    if generation_prompt:
        opened = probe.rfind(generation_prompt, before, at)
        if opened >= 0:
            start = opened + len(generation_prompt)
            return start if start <= shared else None
    return at if shared == at >= before else None


def closing_marker(alone: str, following: str, special: re.Pattern[str] | None, *, last: bool) -> str:
    """What ends the turn: the text behind the answer up to its first special token.

    `alone` stands behind the answer where the conversation ends with it, `following` where
    it goes on: only what both share belongs to the turn. Tool calls follow the words of a
    turn and may use special tokens themselves, so that the `last` one ends it.
    """
    shared = following[: common_prefix(alone, following)]
    tokens = list(special.finditer(shared)) if special else []
    if tokens:
        return shared[: tokens[-1 if last else 0].end()]
    return shared.rstrip() if shared.rstrip() == alone.rstrip() else ""
