"""How a training run ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fettle.runs.records import State


@dataclass(frozen=True, slots=True)
class Outcome:
    """What `fettle train` prints and exits by."""

    run: Path
    state: State
    step: int
    reason: str
    checkpoint: Path | None
    """The newest whole checkpoint."""
