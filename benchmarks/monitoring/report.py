"""What was measured, as rows of one table."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(slots=True)
class Row:
    """One thing to beat."""

    name: str
    ours: float
    unit: str
    target: float | None = None
    """At most this much."""
    theirs: float | None = None
    ratios: tuple[float, float, float] | None = None
    """Ours over theirs, round by round: median, least, greatest."""
    note: str = ""

    @property
    def met(self) -> bool | None:
        return None if self.target is None else self.ours <= self.target

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}

    def line(self) -> str:
        target = "" if self.target is None else f"≤ {_short(self.target)}"
        mark = {None: " ", True: "✓", False: "✗"}[self.met]
        theirs = "" if self.theirs is None else _short(self.theirs)
        ratio = "" if self.ratios is None else "{:.3f} ({:.3f} to {:.3f})".format(*self.ratios)
        ours = f"{_short(self.ours):>10} {self.unit:<6}{target:>8} {mark}"
        return f"{self.name:<52}{ours} {theirs:>10}  {ratio:<26}{self.note}".rstrip()


HEADER = f"{'':<52}{'fettle':>10} {'':<6}{'target':>8}   {'trackio':>10}  ratio, median (range)"


def paired(
    name: str,
    unit: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    target: float | None = None,
    note: str = "",
) -> Row:
    """A row of rounds that were measured in turn."""
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    spread = (statistics.median(ratios), ratios[0], ratios[-1])
    return Row(name, statistics.median(ours), unit, target, statistics.median(theirs), spread, note)


def progress(text: str) -> None:
    """On standard error: what is being done."""
    print(f"  {text} …", file=sys.stderr, flush=True)


def in_turn(rounds: int, *measures: Callable[[], float]) -> list[list[float]]:
    """Each of `measures` once a round, in turn."""
    found = [[measure() for measure in measures] for _ in range(rounds)]
    return [list(column) for column in zip(*found, strict=True)]


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
