"""Screens over the panels: a page of lines, and a question."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from fettle.watch.facts import Facts


class PageScreen(Screen[None]):
    """Lines that fill the screen and can be scrolled; they follow the run."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("escape", "app.pop_screen"),
        Binding("home", "top"),
        Binding("end", "bottom"),
    ]

    def __init__(
        self, title: str, lines: Callable[[Facts, int], list[Text]], tail: bool, facts: Facts
    ) -> None:
        super().__init__()
        # Facts may come before the screen is composed, when no query finds these.
        self._page = VerticalScroll(id="page")
        self._page.border_title = f"{title} – Esc: back"
        self._text = Static(id="lines", markup=False)
        self._lines = lines
        self._tail = tail
        """Whether it shows its end, and stays there while it grows."""
        self._facts = facts
        self._shown: list[Text] = []

    def compose(self) -> ComposeResult:
        with self._page:
            yield self._text

    def on_mount(self) -> None:
        self._page.focus()
        self.call_after_refresh(self.show, self._facts)

    def on_resize(self) -> None:
        self.call_after_refresh(self.show, self._facts)

    def show(self, facts: Facts) -> None:
        """Draw these facts; a page that was scrolled up stays where it is."""
        self._facts = facts
        page = self._page
        width = page.scrollable_content_region.width
        if width <= 0:
            return
        first, at_end = not self._shown, page.scroll_y >= page.max_scroll_y - 1
        lines = self._lines(facts, width)
        if lines == self._shown:
            return
        self._shown = lines
        self._text.update(Text("\n").join(lines))
        if self._tail and (first or at_end):
            self.call_after_refresh(page.scroll_end, animate=False)

    def action_top(self) -> None:
        """To the first line."""
        self._page.scroll_home(animate=False)

    def action_bottom(self) -> None:
        """To the last line."""
        self._page.scroll_end(animate=False)


class ConfirmScreen(ModalScreen[bool]):
    """A question that only `y` answers with yes."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("y", "answer(True)"),
        Binding("n,escape,q", "answer(False)"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        yield Static(f"{self._question}\n\ny  yes      n  no", id="question", markup=False)

    def action_answer(self, yes: bool) -> None:
        """Close with the answer."""
        self.dismiss(yes)
