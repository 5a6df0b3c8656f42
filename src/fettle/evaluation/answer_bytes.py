"""One generated answer as bytes, and the key that names it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import orjson
import xxhash

from fettle.config import SamplingConfig
from fettle.scoring import Answer

# Grows whenever sampling gives another answer for the same weights, prompt and settings.
SAMPLING_VERSION = 1
WITHOUT_SAY = {"n"}
WITHOUT_SAY_WHEN_GREEDY = {"n", "seed", "top_p", "temperature"}


def without_say(settings: SamplingConfig) -> set[str]:
    """Settings that do not change an answer."""
    return WITHOUT_SAY if settings.temperature else WITHOUT_SAY_WHEN_GREEDY


def answer_key(
    prompt: Collection[int],
    number: int,
    settings: SamplingConfig,
    ends: Collection[int],
    weights: str,
    precision: str,
    tokenizer: str,
) -> bytes:
    """XXH3-128 of everything that an answer depends on; how many others its prompt has is no part of it.

    `ends` are the tokens that end a turn, `tokenizer` the content of what turns tokens into text.
    """
    asked = settings.model_dump(exclude=without_say(settings))
    parts = [asked, sorted(ends), weights, precision, tokenizer, number, list(prompt)]
    content = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    return xxhash.xxh3_128_digest(f"answer {SAMPLING_VERSION} ".encode() + content)


def pack_answer(answer: Answer) -> bytes:
    """All but the place of its prompt."""
    values: dict[str, Any] = {
        "number": answer.number,
        "text": answer.text,
        "tokens": answer.tokens,
        "ended": answer.ended,
        "entropy": answer.entropy,
        "logprob": answer.logprob,
    }
    return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)


def unpack_answer(value: bytes, prompt: int) -> Answer:
    """The answer to the prompt at this place. What was not finite is NaN."""
    values: dict[str, Any] = orjson.loads(value)
    logprob = None if values["logprob"] is None else np.array(values["logprob"], dtype=np.float64)
    entropy = np.array(values["entropy"], dtype=np.float64)
    return Answer(
        prompt, values["number"], values["text"], values["tokens"], values["ended"], entropy, logprob
    )
