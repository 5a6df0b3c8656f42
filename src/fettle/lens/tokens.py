"""Texts as tokens, and which of their positions are pooled."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.data.template import ChatTemplate
from fettle.errors import DataError
from fettle.lens.spec import ExtractionSpec

SHOWN = 60


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """What is run of one text."""

    ids: NDArray[np.int64]
    """[T]"""
    counted: NDArray[np.bool_]
    """[T], true where the position is pooled."""

    def __len__(self) -> int:
        return int(self.ids.size)


class TextTokenizer:
    """Turns texts into tokens as one spec says."""

    def __init__(self, tokenizer: Any, spec: ExtractionSpec, context: int | None = None) -> None:
        """`context` is the most tokens that the model takes; None for no limit."""
        self._tokenizer = tokenizer
        self._spec = spec
        self._limit = min(spec.max_tokens, context or spec.max_tokens)
        self._special = np.array(sorted(special_tokens(tokenizer)), dtype=np.int64)
        self.cut = 0
        """Texts so far that were longer than the limit."""

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """Raises DataError for a text without a token that counts, or too long for a chat template."""
        found = [Tokens(ids, self.counted(ids)) for ids in self.ids(texts)]
        for text, tokens in zip(texts, found, strict=True):
            if not tokens.counted.any():
                raise DataError(
                    f"'{text[:SHOWN]}' has no token to pool but special ones and the first "
                    f"{self._spec.exclude_sinks}. Leave it out, or set exclude_sinks to 0"
                )
        return found

    def ids(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """The same without saying what counts."""
        if self._spec.template == "chat":
            found = self._in_template(texts)
        else:
            found = self._encode(texts)
            if long := [i for i, ids in enumerate(found) if len(ids) > self._limit]:
                self.cut += len(long)
                shorter = self._encode([texts[i] for i in long], truncation=True, max_length=self._limit)
                for i, ids in zip(long, shorter, strict=True):
                    found[i] = ids
        return [np.asarray(ids, dtype=np.int64) for ids in found]

    def counted(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Positions of a text that are pooled."""
        counted = np.arange(len(ids)) >= self._spec.exclude_sinks
        return counted & ~np.isin(ids, self._special) if self._spec.exclude_special else counted

    def answered(self, prompt: NDArray[np.int64], answer: Sequence[int], ends: Collection[int]) -> Tokens:
        """Prompt and answer, where only the answer counts, up to the token that ends it."""
        ids = np.concatenate([prompt, np.asarray(answer, dtype=np.int64)])
        stops = np.isin(ids, sorted(ends)) & (np.arange(len(ids)) >= len(prompt))
        before_end = np.cumsum(stops) == 0
        counted = self.counted(ids) & before_end & (np.arange(len(ids)) >= len(prompt))
        return Tokens(ids, counted)

    def _encode(self, texts: Sequence[str], **options: Any) -> list[list[int]]:
        return self._tokenizer(list(texts), **options)["input_ids"] if texts else []

    def _in_template(self, texts: Sequence[str]) -> list[list[int]]:
        template = ChatTemplate(self._tokenizer)
        turns = [[{"role": "user", "content": text}] for text in texts]
        rendered = [template.apply(turn, None, add_generation_prompt=True) for turn in turns]
        found = self._encode(rendered, add_special_tokens=False)
        for text, ids in zip(texts, found, strict=True):
            if len(ids) > self._limit:
                raise DataError(
                    f"'{text[:SHOWN]}...' has {len(ids)} tokens in the chat template, more than "
                    f"{self._limit}. Shorten it, or raise max_tokens"
                )
        return found


def special_tokens(tokenizer: Any) -> set[int]:
    """Tokens that mark beginnings, ends and turns; that of unknown words stands for words."""
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return (added | set(tokenizer.all_special_ids)) - {tokenizer.unk_token_id}
