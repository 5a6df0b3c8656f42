"""Conversations to token sequences with loss masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Collection
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fettle.data.example import Example
from fettle.data.sequence import Sequence
from fettle.data.template import ChatTemplate
from fettle.errors import DataError, ModelError

BATCH = 512


@dataclass(frozen=True, slots=True)
class EncodedExamples:
    """Token sequences and what became of the examples."""

    sequences: list[Sequence]
    kept: list[int]
    """Index of the example of each sequence."""
    counts: dict[str, int] = field(default_factory=dict[str, int])
    """`truncated`, `dropped_too_long`, `without_label`."""
    messages: list[str] = field(default_factory=list[str])
    """The same in words, one line each."""


class ChatEncoder:
    """Applies a tokenizer's chat template; loss falls on answers and the marker that ends them.

    Raises ModelError for a tokenizer without chat template or without character offsets.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        train_on: Literal["all", "last"] = "all",
        max_seq_length: int = 2048,
        too_long: Literal["keep_end", "drop", "error"] = "keep_end",
    ) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(
                f"{tokenizer.name_or_path} has no fast tokenizer, and loss masks need its offsets"
            )
        self._tokenizer = tokenizer
        self._template = ChatTemplate(tokenizer)
        self._only_last = train_on == "last"
        self._max = max_seq_length
        self._too_long = too_long

    def encode_all(self, examples: Collection[Example], *, progress: bool = False) -> EncodedExamples:
        """Encode every example; those without a token to learn from are left out and counted."""
        sequences: list[Sequence] = []
        kept: list[int] = []
        counts: Counter[str] = Counter()
        for index, sequence in enumerate(self._encode(examples, progress=progress)):
            fitted, fate = self._fit(sequence, examples[index])
            if fate:
                counts[fate] += 1
            if fitted is not None:
                sequences.append(fitted)
                kept.append(index)
        words = {
            "truncated": f"cut at the beginning to training.max_seq_length {self._max}",
            "dropped_too_long": f"left out: longer than training.max_seq_length {self._max}",
            "without_label": "left out: no token to learn from",
        }
        messages = [
            f"{counts[key]} of {len(examples)} examples {text}" for key, text in words.items() if counts[key]
        ]
        return EncodedExamples(sequences, kept, {key: counts[key] for key in words}, messages)

    def _encode(self, examples: Collection[Example], *, progress: bool) -> Iterator[Sequence]:
        batches = [examples[i : i + BATCH] for i in range(0, len(examples), BATCH)]
        for batch in _tracked(batches, enabled=progress):
            if self._template.marks_generation:
                yield from (self._encode_marked(example) for example in batch)
                continue
            rendered = [self._template.render(example, only_last=self._only_last) for example in batch]
            encoded = self._tokenizer(
                [r.text for r in rendered], add_special_tokens=False, return_offsets_mapping=True
            )
            for ids, offsets, r in zip(
                encoded["input_ids"], encoded["offset_mapping"], rendered, strict=True
            ):
                yield Sequence(ids, _mask(np.asarray(offsets), r.spans))

    def _encode_marked(self, example: Example) -> Sequence:
        """By the template's own {% generation %} marks."""
        encoded = self._tokenizer.apply_chat_template(
            example.messages,
            tools=example.tools,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        mask = np.asarray(encoded["assistant_masks"], dtype=np.bool_)
        if self._only_last and mask.any():
            stop = int(np.flatnonzero(mask)[-1])
            outside = np.flatnonzero(~mask[:stop])
            mask[: int(outside[-1]) + 1 if outside.size else 0] = False
        return Sequence(encoded["input_ids"], mask)

    def _fit(self, sequence: Sequence, example: Example) -> tuple[Sequence | None, str | None]:
        if not sequence.loss_mask.any():
            return None, "without_label"
        if len(sequence) <= self._max:
            return sequence, None
        if self._too_long == "error":
            raise DataError(
                f"{example.source}:{example.line}: has {len(sequence)} tokens, more than "
                f"training.max_seq_length {self._max}. Raise it, or choose data.too_long: keep_end or drop."
            )
        ids, mask = sequence.input_ids, sequence.loss_mask
        last = int(np.flatnonzero(mask)[-1])
        outside = np.flatnonzero(~mask[: last + 1])
        answer = last - int(outside[-1])
        if self._too_long == "drop" or answer >= self._max:
            return None, "dropped_too_long"
        start = max(0, last + 1 - self._max)
        return Sequence(ids[start : last + 1], mask[start : last + 1]), "truncated"


def _mask(offsets_T2: NDArray[np.int64], spans: Iterable[tuple[int, int]]) -> NDArray[np.bool_]:
    """Tokens that overlap a span; a token that begins before the span and ends in it counts too."""
    starts, stops = offsets_T2[:, 0], offsets_T2[:, 1]
    mask = np.zeros(len(offsets_T2), dtype=np.bool_)
    for a, b in spans:
        mask |= (stops > a) & (starts < b) & (stops > starts)
    return mask


def _tracked(batches: list[Any], *, enabled: bool) -> Iterable[Any]:
    if not enabled:
        return batches
    from rich.console import Console
    from rich.progress import track

    return track(batches, description="encoding", console=Console(stderr=True))
