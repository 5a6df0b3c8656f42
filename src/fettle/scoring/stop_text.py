"""Where a text that ends an answer appears, found in the text itself as it grows."""

from __future__ import annotations

from collections.abc import Sequence as Collection
from typing import Any


class StopText:
    """Follows one answer token by token.

    What is compared is decoded text: the same text comes out of many cuts into tokens, and may begin
    in the middle of one. Only the newest tokens are decoded again. Special tokens have no text, but a
    stop may be the name of one.
    """

    def __init__(self, tokenizer: Any, stops: Collection[str]) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        added: dict[int, Any] = tokenizer.added_tokens_decoder
        self._special = {token for token, name in added.items() if name.special and name.content in stops}
        self._tokens: list[int] = []
        self._context, self._known = 0, 0
        self._tail = ""

    def add(self, token: int) -> bool:
        """Take in one token; whether one of the texts is complete now."""
        self._tokens.append(token)
        before = self._decode(self._tokens[self._context : self._known])
        now = self._decode(self._tokens[self._context :])
        text = self._tail + now[len(before) :]
        if not now.endswith("\N{REPLACEMENT CHARACTER}"):  # or the next token completes this character
            self._context, self._known = self._known, len(self._tokens)
            self._tail = text[-self._longest :]
        return token in self._special or any(stop in text for stop in self._stops)

    def _decode(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True) if tokens else ""


def cut(text: str, stops: Collection[str], *, include: bool) -> str:
    """The text up to the first stop in it, or up to its end; all of it where none is there."""
    found = [(text.find(stop), len(stop)) for stop in stops]
    ends = [(at, length) for at, length in found if at >= 0]
    if not ends:
        return text
    # Of those that begin at the same place the shortest was complete first.
    at, length = min(ends, key=lambda end: (end[0] + end[1], end[0]))
    return text[: at + length] if include else text[:at]
