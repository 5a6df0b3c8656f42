"""Prompts of the demo: words spelled letter by letter, and facts that nobody could guess."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

CONSONANTS, VOWELS = "bdfgklmnprstv", "aeiou"


def pseudo_words(rng: random.Random) -> Iterator[str]:
    """Pronounceable words of 3 to 5 letters, each once."""
    seen: set[str] = set()
    while True:
        length = rng.randint(3, 5)
        start = rng.randint(0, 1)
        word = "".join(rng.choice((CONSONANTS, VOWELS)[(start + i) % 2]) for i in range(length))
        if word not in seen:
            seen.add(word)
            yield word


def spelled(word: str) -> str:
    return " ".join(word)


# What the base model can do before fine-tuning.
FIRST_SKILL: dict[str, Callable[[str], tuple[str, str]]] = {
    "copy": lambda w: (f"Copy: {spelled(w)}", spelled(w)),
    "first": lambda w: (f"First letter of {spelled(w)}?", w[0]),
    "last": lambda w: (f"Last letter of {spelled(w)}?", w[-1]),
}
# What it is fine-tuned on: kinds that follow a rule; of the last there are too few examples to judge.
RULES: dict[str, Callable[[str], tuple[str, str]]] = {
    "reverse": lambda w: (f"Reverse: {spelled(w)}", spelled(w[::-1])),
    "ends": lambda w: (f"First and last of {spelled(w)}?", f"{w[0]} {w[-1]}"),
    "double": lambda w: (f"Twice: {spelled(w)}", f"{spelled(w)} {spelled(w)}"),
}

# Kind -> examples to train on, and held out.
COUNTS = {"reverse": (160, 80), "ends": (80, 60), "capitals": (60, 60), "double": (10, 8)}


def first_skill(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Chats of the first skill, all kinds in turn."""
    words = pseudo_words(random.Random(seed))
    kinds = list(FIRST_SKILL.items())
    return [_chat(kinds[i % len(kinds)][0], *kinds[i % len(kinds)][1](next(words))) for i in range(count)]


def fine_tuning(counts: dict[str, tuple[int, int]], seed: int = 1) -> tuple[list[Any], list[Any]]:
    """Training and held-out chats: kind -> (training, held out).

    `capitals` are made-up facts: those of the held-out set can be learned from nothing.
    """
    rng = random.Random(seed)
    words = pseudo_words(rng)
    train: list[dict[str, Any]] = []
    held_out: list[dict[str, Any]] = []
    for kind, (n_train, n_held_out) in counts.items():
        chats = [_fact(words) if kind == "capitals" else _chat(kind, *RULES[kind](next(words)))
                 for _ in range(n_train + n_held_out)]  # fmt: skip
        train += chats[:n_train]
        held_out += chats[n_train:]
    rng.shuffle(train)
    rng.shuffle(held_out)
    return train, held_out


def write_chats(path: Path, chats: list[dict[str, Any]]) -> Path:
    """One chat a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps(chat, option=orjson.OPT_APPEND_NEWLINE) for chat in chats))
    return path


def _fact(words: Iterator[str]) -> dict[str, Any]:
    return _chat("capitals", f"Capital of {spelled(next(words))}?", spelled(next(words)))


def _chat(kind: str, prompt: str, answer: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return {"pattern": kind, "messages": messages}
