"""What was asked of a server, as it counts, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import Any, cast

from fettle.config.endpoint import ApiConfig

Counts = tuple[int | None, int | None]
"""Tokens of a prompt and of its answer; None where the server does not tell."""


def counts_of(answer: Any) -> Counts:
    """As an answer tells them."""
    body = cast("dict[str, Any]", answer) if isinstance(answer, dict) else {}
    usage: Any = body.get("usage")
    told = cast("dict[str, Any]", usage) if isinstance(usage, dict) else {}
    prompt, completion = told.get("prompt_tokens"), told.get("completion_tokens")
    return (
        prompt if isinstance(prompt, int) else None,
        completion if isinstance(completion, int) else None,
    )


@dataclass(slots=True)
class Usage:
    """Counted so far, by any number of threads."""

    requests: int = 0
    """With an answer, whether it was of use or not."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    """Of the answers that told; None while none did."""
    uncounted: int = 0
    """Answers that did not tell both."""
    _lock: Lock = field(default_factory=Lock, repr=False)

    def add(self, answer: Any) -> None:
        """Count one answer."""
        prompt, completion = counts_of(answer)
        with self._lock:
            self.requests += 1
            self.uncounted += prompt is None or completion is None
            if prompt is not None:
                self.prompt_tokens = (self.prompt_tokens or 0) + prompt
            if completion is not None:
                self.completion_tokens = (self.completion_tokens or 0) + completion

    def cost(self, config: ApiConfig) -> float | None:
        """In the currency of the prices; None where a price or the count of any answer is unknown."""
        if self.requests == 0:
            return 0.0
        prices = (config.prompt_price, config.completion_price)
        if self.uncounted or None in prices:
            return None
        counts = (self.prompt_tokens, self.completion_tokens)
        return sum((count or 0) * (price or 0.0) / 1e6 for count, price in zip(counts, prices, strict=True))
