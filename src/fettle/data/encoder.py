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
        self._unclosed = 0

    def encode_all(self, examples: Collection[Example], *, progress: bool = False) -> EncodedExamples:
        """Encode every example; those without a token to learn from are left out and counted."""
        sequences: list[Sequence] = []
        kept: list[int] = []
        counts: Counter[str] = Counter()
        self._unclosed = 0
        for index, sequence in enumerate(self._encode(examples, progress=progress)):
            fitted, fate = self._fit(sequence, examples[index])
            if fate:
                counts[fate] += 1
            if fitted is not None:
                sequences.append(fitted)
                kept.append(index)
        words = {
            "truncated": f"cut at the beginning to max_seq_length {self._max}",
            "dropped_too_long": f"left out: longer than max_seq_length {self._max}",
            "without_label": "left out: no token to learn from",
        }
        messages = [
            f"{counts[key]} of {len(examples)} examples {text}" for key, text in words.items() if counts[key]
        ]
        if self._unclosed:
            messages.append(
                f"the chat template ends {self._unclosed} of {len(examples)} answers without a token of its "
                "own: a model trained on them does not learn where to stop"
            )
        return EncodedExamples(sequences, kept, {key: counts[key] for key in words}, messages)

    def _encode(self, examples: Collection[Example], *, progress: bool) -> Iterator[Sequence]:
        batches = [examples[i : i + BATCH] for i in range(0, len(examples), BATCH)]
        for batch in _tracked(batches, enabled=progress):
            if self._template.marks_generation:
                yield from (self._encode_marked(example) for example in batch)
                continue
            rendered = [self._template.render(example, only_last=self._only_last) for example in batch]
            self._unclosed += sum(not r.closed for r in rendered)
            encoded = self._tokenizer(
                [r.text for r in rendered], add_special_tokens=False, return_offsets_mapping=True
            )
            for ids, offsets, r in zip(
                encoded["input_ids"], encoded["offset_mapping"], rendered, strict=True
            ):
                yield Sequence(ids, _mask(np.asarray(offsets), r.spans))

    def _encode_marked(self, example: Example) -> Sequence:
        """By the template's own {% generation %} marks, which come in the order of the answers."""
        messages = example.messages[: example.answers[-1] + 1]
        encoded = self._tokenizer.apply_chat_template(
            messages,
            tools=example.tools,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        ids_T = np.asarray(encoded["input_ids"], dtype=np.int64)
        marked_T = np.asarray(encoded["assistant_masks"], dtype=np.bool_)
        mask_T = np.zeros_like(marked_T)
        answers, runs = example.answers, _runs(marked_T)
        learned = example.learned_answers(only_last=self._only_last)
        if len(runs) != len(answers) and learned not in (answers, answers[-1:]):
            raise ModelError(
                f"{example.source}:{example.line}: the template marks {len(runs)} stretches as generated "
                f"and the chat has {len(answers)} answers, so some cannot be left out. Train on all of them."
            )
        wanted = runs if learned == answers else [
            run for turn, run in zip(answers[::-1], runs[::-1], strict=False) if turn in learned
        ]  # fmt: skip
        for start, stop in wanted:
            mask_T[start:stop] = True
            if stop < len(ids_T) and ids_T[stop] == self._tokenizer.eos_token_id:
                mask_T[stop] = True  # Many marks close before the token that ends the turn.
        return Sequence(ids_T, mask_T)

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
        runs = _runs(sequence.loss_mask)
        first, stop = runs[-1]
        # One token of context at least: the first of a sequence is predicted from nothing.
        if self._too_long == "drop" or stop - first >= self._max:
            return None, "dropped_too_long"
        start = max(0, stop - self._max)
        mask = sequence.loss_mask.copy()
        for a, b in runs[:-1]:
            if a <= start < b:  # Half an answer teaches to begin in the middle.
                mask[a:b] = False
        return Sequence(sequence.input_ids[start:stop], mask[start:stop]), "truncated"


def _runs(mask_T: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and stop of each stretch of true values."""
    edges = np.flatnonzero(np.diff(np.r_[False, mask_T, False]))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


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
