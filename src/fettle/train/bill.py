"""Tokens that a service charges for, and what they cost so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fettle.config import TinkerPrices
from fettle.runs import RunFolder
from fettle.runs.follow import LogFollower

COUNTS = ("train", "prefill", "sample")


@dataclass
class Bill:
    """Of one run since it began. What is sent again after a lost connection is charged again."""

    prices: TinkerPrices | None
    budget: float | None = None
    """US dollars that steps may take the run to."""
    train_tokens: int = 0
    """Of forward and backward passes."""
    prefill_tokens: int = 0
    """Of forward passes alone: fixed evals, prompts."""
    sample_tokens: int = 0
    """Of answers."""

    @property
    def spent(self) -> float | None:
        """US dollars; None where no price is known."""
        return None if self.prices is None else self._cost(self.train_tokens)

    def affords(self, train_tokens: int) -> bool:
        """Whether a step of so many tokens more stays within the budget."""
        if self.budget is None or self.prices is None:
            return True
        return self._cost(self.train_tokens + train_tokens) <= self.budget

    @property
    def exhausted(self) -> str:
        """Why the run ends, in words for people."""
        return (
            f"another step would take it above its budget of ${self.budget or 0:,.2f}; "
            f"${self.spent or 0:,.2f} is spent. The same command goes on with a higher tinker.budget"
        )

    def fields(self) -> dict[str, Any]:
        """As it stands in the log and in status.json."""
        counts = {f"billed_{name}_tokens": getattr(self, f"{name}_tokens") for name in COUNTS}
        return {**counts, "spent_usd": self.spent}

    def go_on(self, folder: RunFolder) -> None:
        """Take over what the run was charged before, steps that no longer count included."""
        last: Mapping[str, Any] = {}
        for row in LogFollower(folder.metrics_path).poll():
            if f"billed_{COUNTS[0]}_tokens" in row:
                last = row
        for name in COUNTS:
            setattr(self, f"{name}_tokens", int(last.get(f"billed_{name}_tokens", 0)))

    def _cost(self, train_tokens: int) -> float:
        assert self.prices is not None
        return self.prices.cost(train=train_tokens, prefill=self.prefill_tokens, sample=self.sample_tokens)
