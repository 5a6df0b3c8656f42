"""The panels of the view: each is a function of the facts that gives lines of text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.text import Text

from fettle.watch.facts import Facts


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. Both functions are pure."""

    name: str
    title: Callable[[Facts], str]
    draw: Callable[[Facts, int, int], list[Text]]
    """Lines for a width and a height in cells; fewer where there is less to say, the last ones are cut."""
