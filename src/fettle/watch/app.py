"""The live view: panels of text that follow one run folder, and the keys."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Static

from fettle.errors import FettleError
from fettle.runs.control import Action
from fettle.watch.facts import Facts
from fettle.watch.pages import evaluations_page, help_page, log_page
from fettle.watch.panels import Panel
from fettle.watch.panels.alerts import ALERTS
from fettle.watch.panels.evaluation import EVALUATION
from fettle.watch.panels.head import HEAD, VERDICT, paused
from fettle.watch.panels.layers import LAYERS
from fettle.watch.panels.log import LOG
from fettle.watch.panels.losses import LOSSES
from fettle.watch.panels.machine import MACHINE
from fettle.watch.panels.patterns import PATTERNS
from fettle.watch.screens import ConfirmScreen, PageScreen
from fettle.watch.text import BOLD, FAINT, NOTICE, clean, fit, line
from fettle.watch.watcher import Watcher

INTERVAL_SECONDS = 0.5
MESSAGE_SECONDS = 6.0
ALERT_LINES = (2, 6)
"""At most, on a screen of few lines and of many."""


class Read(Message):
    """The run was read."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        super().__init__()


class Failed(Message):
    """There is no run to watch."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__()


class PanelView(Static):
    """One panel on the screen; drawn again only where its text is another."""

    def __init__(self, panel: Panel) -> None:
        super().__init__(id=panel.name, markup=False)
        self.panel = panel
        self.facts: Facts | None = None
        self._shown: Text | None = None

    def show(self, facts: Facts) -> None:
        """Draw these facts."""
        self.facts = facts
        width, height = self.content_size
        if width <= 0 or height <= 0:
            return
        title = clean(self.panel.title(facts))
        if title and title != self.border_title:
            # Text of a run must not be read as markup.
            self.border_title = title.replace("[", r"\[")
        drawn = Text("\n").join(self.panel.draw(facts, width, height))
        if drawn != self._shown:
            self._shown = drawn
            self.update(drawn, layout=False)

    def on_resize(self) -> None:
        if self.facts is not None:
            self.show(self.facts)


class KeyLine(Static):
    """The keys, those that can do nothing now faint; for some seconds what became of one."""

    _told_until = 0.0

    def tell(self, text: str) -> None:
        """Say something in place of the keys."""
        self._told_until = monotonic() + MESSAGE_SECONDS
        self.update(fit(line((text, NOTICE + BOLD)), self.size.width), layout=False)

    def show(self, facts: Facts) -> None:
        """Name the keys for this moment."""
        if monotonic() < self._told_until:
            return
        able = facts.refusal is None
        style = BOLD if able else FAINT
        parts: list[Any] = []
        pause = "resume" if paused(facts) else "pause"
        for key, word in (("P", pause), ("C", "stop"), ("S", "checkpoint")):
            parts += [(f" {key}", style), (f" {word} ", FAINT)]
        for key, word in (("L", "log"), ("E", "evals"), ("?", "help"), ("Q", "quit")):
            parts += [(f" {key}", BOLD), (f" {word} ", FAINT)]
        self.update(fit(line(*parts), self.size.width), layout=False)


class WatchApp(App[None]):
    """`fettle watch`."""

    TITLE = "fettle watch"
    ENABLE_COMMAND_PALETTE = False
    CSS_PATH = "watch.tcss"
    # Textual declares these two without ClassVar, and a ClassVar cannot override that.
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-narrow"),
        (110, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-short"),
        (32, "-tall"),
    ]
    BINDINGS: ClassVar[list[Any]] = [
        Binding("p", "pause"),
        Binding("c", "stop"),
        Binding("s", "checkpoint"),
        Binding("l", "page('log')"),
        Binding("e", "page('evaluations')"),
        Binding("question_mark", "page('help')"),
        Binding("q,ctrl+c", "quit"),
    ]

    def __init__(self, watcher: Watcher, interval: float = INTERVAL_SECONDS) -> None:
        super().__init__()
        # The terminal's own sixteen colours: readable on a light one and a dark one, and over any line.
        self.theme = "ansi-dark"
        self.facts: Facts | None = None
        self.failure: Exception | None = None
        """Why there was nothing to show."""
        self._watcher = watcher
        self._interval = interval
        self._leaving = threading.Event()
        # No pool of the event loop: leaving must not wait until a long log is read.
        self._reader = threading.Thread(target=self._follow, name="fettle-watch", daemon=True)

    def compose(self) -> ComposeResult:
        yield PanelView(HEAD)
        yield PanelView(VERDICT)
        with Horizontal(id="body"):
            with Vertical(id="left"):
                yield PanelView(LOSSES)
                yield PanelView(MACHINE)
            with Vertical(id="right"):
                yield PanelView(EVALUATION)
                yield PanelView(PATTERNS)
                yield PanelView(LAYERS)
        yield PanelView(ALERTS)
        yield PanelView(LOG)
        yield KeyLine(id="keys", markup=False)

    def on_mount(self) -> None:
        self._reader.start()

    def on_unmount(self) -> None:
        self._leaving.set()

    def _follow(self) -> None:
        """Read on, in a thread of its own, until the view is left."""
        try:
            while not self._leaving.is_set():
                for facts in self._watcher.poll():
                    self.post_message(Read(facts))
                self._leaving.wait(self._interval)
        except (FettleError, OSError) as error:
            self.post_message(Failed(error))

    def on_read(self, read: Read) -> None:
        if not self.screen_stack or not self.screen_stack[0].query(KeyLine):
            return  # The view is being left.
        before, self.facts = self.facts, read.facts
        if before is not None and before.segment and before.segment != read.facts.segment:
            self._tell(
                f"The run went back to step {read.facts.losses.train.step}: later rows no longer count."
            )
        self._show(read.facts)

    def on_failed(self, failed: Failed) -> None:
        self.failure = failed.error
        self.exit(return_code=1)

    def on_resize(self) -> None:
        if self.facts is not None:
            self.call_after_refresh(self._show, self.facts)

    def _show(self, facts: Facts) -> None:
        root = self.screen_stack[0]
        # As high as what there is to say, as far as there is room.
        alerts = root.query_one("#alerts", PanelView)
        most = ALERT_LINES[root.has_class("-tall")]
        alerts.styles.height = 1 + len(ALERTS.draw(facts, alerts.content_size.width or self.size.width, most))
        for view in root.query(PanelView):
            view.show(facts)
        root.query_one(KeyLine).show(facts)
        if isinstance(self.screen, PageScreen):
            self.screen.show(facts)

    # -- keys -----------------------------------------------------------------

    def action_page(self, name: str) -> None:
        """Fill the screen with one page."""
        pages = {
            "log": ("Log", log_page, True),
            "evaluations": ("Evaluations", evaluations_page, False),
            "help": ("Help", help_page, False),
        }
        if self.facts is not None and not isinstance(self.screen, ConfirmScreen):
            if isinstance(self.screen, PageScreen):
                self.pop_screen()
            self.push_screen(PageScreen(*pages[name], self.facts))

    def action_pause(self) -> None:
        """Pause the run, or go on with it."""
        self._ask("resume" if self.facts is not None and paused(self.facts) else "pause")

    def action_checkpoint(self) -> None:
        """Save a checkpoint."""
        self._ask("checkpoint")

    def action_stop(self) -> None:
        """Stop the run, if a person says yes."""
        if isinstance(self.screen, ConfirmScreen) or not self._can_ask():
            return
        question = "Stop the run after this step? A checkpoint is saved."
        self.push_screen(ConfirmScreen(question), lambda yes: self._ask("stop") if yes else None)

    def _can_ask(self) -> bool:
        refusal = self.facts.refusal if self.facts is not None else "the run is still being read"
        if refusal is not None:
            self._tell(f"Not possible: {refusal}.")
        return refusal is None

    def _ask(self, action: Action) -> None:
        if not self._can_ask():
            return
        try:
            self._watcher.ask(action)
        except (FettleError, OSError) as error:
            self._tell(f"Not possible: {error}")
            return
        words = "save a checkpoint" if action == "checkpoint" else action
        self._tell(f"Asked to {words}: the trainer acts within a step.")

    def _tell(self, text: str) -> None:
        """A line that stays for some seconds."""
        self.screen_stack[0].query_one(KeyLine).tell(clean(text))
        if isinstance(self.screen, PageScreen):
            self.notify(clean(text), markup=False, timeout=MESSAGE_SECONDS)
