"""What the server had to work out, and what it knew already."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Counts since the start; they do not grow by `parsed` while no file changes."""

    parsed: int = 0
    """Runs, checkpoints, scores and verdicts that were worked out."""
    cached: int = 0
    """Times that one was given again."""
    clients: int = 0
    """Live streams that are open."""
