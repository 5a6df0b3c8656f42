"""A held-out conversation as a question to the model, and the answer that the data holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import xxhash

from fettle.data import Example
from fettle.data.sequence import Sequence
from fettle.train.evaluation import FixedEvalSet


@dataclass(frozen=True, slots=True)
class FixedPrompt:
    """A held-out conversation up to the last answer that is learned, and that answer."""

    example: Example
    pattern: str
    tokens: list[int]
    """The conversation as the chat template has it, cut as in evaluation."""
    truth_tokens: list[int]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The turns before the answer."""
        return self.example.messages[: self.example.learned_answers(only_last=True)[-1]]

    @property
    def id(self) -> str:
        """Content hash of the turns and tools before the answer; the answer is no part of it."""
        content = [self.messages, self.example.tools]
        return xxhash.xxh3_64_hexdigest(orjson.dumps(content, option=orjson.OPT_SORT_KEYS))


def fixed_prompts(eval_set: FixedEvalSet) -> list[FixedPrompt | None]:
    """The prompt of each sample; None for an answer that nothing comes before."""
    parts = zip(eval_set.sequences, eval_set.examples, eval_set.patterns, strict=True)
    return [_fixed_prompt(*part) for part in parts]


def _fixed_prompt(sequence: Sequence, example: Example, pattern: str) -> FixedPrompt | None:
    stop = int(np.flatnonzero(sequence.loss_mask)[-1]) + 1
    before = np.flatnonzero(~sequence.loss_mask[:stop])
    if not before.size:
        return None
    start = int(before[-1]) + 1
    ids: list[int] = sequence.input_ids.tolist()
    return FixedPrompt(example, pattern, ids[:start], ids[start:stop])
