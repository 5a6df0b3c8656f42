"""What a run has seen so far, as every checkpoint carries it."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from fettle.metrics import StreamingCrossEntropy


class Counters:
    """Tokens and losses since the start of the run, and the best of its fixed evals.

    Restored from a checkpoint they stand as they stood when it was written, so that a resumed run
    goes on as if nothing had happened.
    """

    def __init__(self) -> None:
        self.tokens_total = 0
        self.completion_tokens_total = 0
        self._streaming = StreamingCrossEntropy()
        self._window_loss_sum = 0.0
        self._window_tokens = 0
        self._best_cross_entropy: float | None = None
        self._best_exact_match: float | None = None

    @property
    def streaming_ce(self) -> float | None:
        """Smoothed train loss, in nats per completion token; None before any."""
        return self._streaming.value

    def step(self, loss_sum: float, completion_tokens: int, tokens: int) -> None:
        """One optimizer step; a loss that is no number counts its tokens only."""
        self.tokens_total += tokens
        self.completion_tokens_total += completion_tokens
        if isfinite(loss_sum):
            self._window_loss_sum += loss_sum
            self._window_tokens += completion_tokens
            self._streaming.update(loss_sum / completion_tokens)

    def train_loss(self) -> float | None:
        """Nats per completion token since it was last asked for; None where nothing was trained."""
        loss = self._window_loss_sum / self._window_tokens if self._window_tokens else None
        self._window_loss_sum, self._window_tokens = 0.0, 0
        return loss

    def compare(self, cross_entropy: float | None, exact_match: float | None) -> tuple[bool | None, bool]:
        """Whether cross-entropy beats the best before, None without one; and whether either is a new best."""
        before = self._best_cross_entropy
        improved = None if before is None or cross_entropy is None else cross_entropy < before
        lower = (
            cross_entropy is not None
            and isfinite(cross_entropy)
            and (before is None or cross_entropy < before)
        )
        higher = exact_match is not None and (
            self._best_exact_match is None or exact_match > self._best_exact_match
        )
        if lower:
            self._best_cross_entropy = cross_entropy
        if higher:
            self._best_exact_match = exact_match
        return improved, lower or higher

    def state_dict(self) -> dict[str, Any]:
        """Everything, as JSON."""
        return {
            "streaming": self._streaming.state(),
            "window_loss_sum": self._window_loss_sum,
            "window_tokens": self._window_tokens,
            "best_cross_entropy": self._best_cross_entropy,
            "best_exact_match": self._best_exact_match,
            "tokens_total": self.tokens_total,
            "completion_tokens_total": self.completion_tokens_total,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self._streaming.restore(state["streaming"])
        self._window_loss_sum = state["window_loss_sum"]
        self._window_tokens = state["window_tokens"]
        self._best_cross_entropy = state["best_cross_entropy"]
        self._best_exact_match = state["best_exact_match"]
        self.tokens_total = state["tokens_total"]
        self.completion_tokens_total = state["completion_tokens_total"]
