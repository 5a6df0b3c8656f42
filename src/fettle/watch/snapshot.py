"""One moment of a run as plain lines, for pipes and for logs of other programs."""

from __future__ import annotations

from rich.text import Text

from fettle.watch.facts import Facts
from fettle.watch.panels import Panel
from fettle.watch.panels.alerts import ALERTS
from fettle.watch.panels.evaluation import EVALUATION
from fettle.watch.panels.head import HEAD, VERDICT
from fettle.watch.panels.layers import LAYERS
from fettle.watch.panels.log import LOG
from fettle.watch.panels.losses import LOSSES
from fettle.watch.panels.machine import MACHINE
from fettle.watch.panels.patterns import PATTERNS
from fettle.watch.watcher import Watcher

ORDER: tuple[tuple[Panel, int], ...] = (
    (HEAD, 3), (VERDICT, 8), (LOSSES, 15), (EVALUATION, 8), (PATTERNS, 30), (LAYERS, 10), (MACHINE, 4),
    (ALERTS, 40), (LOG, 5),
)  # fmt: skip
"""Panels and the most lines of each."""


def snapshot(watcher: Watcher) -> Facts:
    """The run as of now, judged. Raises RunError where there is none."""
    return list(watcher.poll())[-1]


def snapshot_lines(facts: Facts, width: int) -> list[Text]:
    """Every panel under its title."""
    lines: list[Text] = []
    for panel, most in ORDER:
        title = panel.title(facts)
        lines += [Text(), Text(title, style="bold")] if title else []
        lines += panel.draw(facts, width, most)
    return lines
