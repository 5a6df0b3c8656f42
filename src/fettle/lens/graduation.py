"""When a lens needs no more texts, and when more would not help it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fettle.lens.judge import HeldOut

State = Literal["graduated", "growing", "stopped"]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a lens stands, and why."""

    state: State
    reason: str


@dataclass(frozen=True, slots=True)
class Graduation:
    """What a lens must reach on texts of groups it was not trained on; the sealed test has no say."""

    f1: float = 0.95
    max_gap: float | None = 0.10
    """Largest training F1 minus held-out F1; None for no bound."""
    signal_samples: int = 30
    """Positives from which a lens may be given up: with fewer its F1 is mostly luck."""
    level_rounds: int = 3
    """Sizes, of that many positives or more, over which F1 must rise by `level_gain`."""
    level_gain: float = 0.01

    def judge(self, history: Sequence[HeldOut], more: bool) -> Standing:
        """The standing of a lens after its rounds of growth; `more` says whether more texts can be had."""
        last = history[-1]
        if last.f1 >= self.f1 and (self.max_gap is None or last.gap <= self.max_gap):
            return Standing("graduated", f"F1 {last.f1:.3f} on {last.positives} texts, gap {last.gap:.3f}")
        area = last.auroc
        if area.low is not None and area.low <= 0.5 and (last.positives >= self.signal_samples or not more):
            enough = last.positives >= self.signal_samples
            cause = "no signal" if enough else "too few samples"
            return Standing(
                "stopped", f"{cause}: AUROC {area.value:.2f} from {area.low:.2f} on, {last.positives} texts"
            )
        if since := self._level_since(history):
            return Standing("stopped", f"level: F1 {last.f1:.3f}, no higher since {since} texts")
        lacks = f"F1 {last.f1:.3f}" if last.f1 < self.f1 else f"gap {last.gap:.3f}"
        if not more:
            return Standing("stopped", f"too few samples: {lacks} on all {last.positives} texts")
        return Standing("growing", f"{lacks} on {last.positives} texts")

    def _level_since(self, history: Sequence[HeldOut]) -> int | None:
        """The texts a lens had when it stopped getting better; None where it still does."""
        by_size = {h.positives: h.f1 for h in history if h.positives >= self.signal_samples}
        recent = list(by_size.items())[-self.level_rounds :]
        if len(recent) < self.level_rounds:
            return None
        first, *later = [f1 for _, f1 in recent]
        return recent[0][0] if max(later) < first + self.level_gain else None
