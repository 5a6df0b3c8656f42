"""Fixtures for the page: one server over generated runs, one fresh tab a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from page.rich_run import RichRun, write_rich_run
from server.live_server import serving

RICH = "2026-11-20_18-04-12_qwen3-8b-r16"
OTHER = "qwen3-8b-lr1e-4"
HOSTILE = "<img src=x onerror=window.broken=1>"
BARE = "bare"
PATTERN = "</script><b>kind</b>"
DESKTOP: dict[str, Any] = {"viewport": {"width": 1440, "height": 1000}}
TIMEOUT_MS = 15_000
CLEAR = """() => {
  localStorage.clear();
  document.querySelectorAll("dialog[open]").forEach((dialog) => dialog.close());
  location.hash = "";
}"""


QUICK: dict[str, float] = {
    "fettle.server.feed.INTERVAL_SECONDS": 0.02,
    "fettle.server.feed.STATUS_SECONDS": 0.1,
    "fettle.server.job_runner.INTERVAL_SECONDS": 0.05,
}
"""What a page waits for comes soon."""


@contextmanager
def running(root: Path, *options: str) -> Iterator[str]:
    """The address of a server over `root` while it is up."""
    with serving(root, *options, constants=QUICK) as client:
        yield str(client.base_url).rstrip("/")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs that no test changes."""
    root = tmp_path_factory.mktemp("page") / "runs"
    write_rich_run(root)
    quiet: dict[str, Any] = {"nan_steps": (), "inf_steps": (), "spike_steps": ()}
    write_rich_run(root, RichRun(name=OTHER, seed=5, learning_rate=1e-4, **quiet))
    write_rich_run(
        root,
        RichRun(name=HOSTILE, steps=300, last_step=200, patterns=(PATTERN, "factual"), samples=80, **quiet),
    )
    bare = write_rich_run(root, RichRun(name=BARE, steps=50, eval_every=1000, samples=10, **quiet))
    (bare / "predictions" / "predictions.jsonl").unlink()
    (bare / "lenses" / "drift.json").unlink()
    lines = (bare / "metrics.jsonl").read_text().splitlines(keepends=True)
    (bare / "metrics.jsonl").write_text("".join(line for line in lines if '"system"' not in line))
    return root


@pytest.fixture(scope="session")
def address(runs: Path) -> Iterator[str]:
    """A server that stays up for all tests."""
    with running(runs) as address:
        yield address


class Tab:
    """A tab in which one test after the other looks at the page: it is loaded once, and told where to go."""

    def __init__(self, browser: Any) -> None:
        self.problems: list[str] = []
        self.page = browser.new_context(**DESKTOP).new_page()
        self._base = ""
        self._kept = ""
        self.page.set_default_timeout(TIMEOUT_MS)
        hear(self.page, self.problems)
        self.page.on("request", lambda request: self._own(request.url))

    def _own(self, url: str) -> None:
        if not own(url, self._base):
            self.problems.append(f"foreign: {url}")

    def visit(self, place: str, *, base: str, keep: bool = False) -> Any:
        """The page at a place, built anew, unless the test before kept it and so does this one."""
        here = f"{base}/{place}"
        if not (keep and self._kept == here == self.page.url):
            if base != self._base:
                # The page of the other server asks it until it is gone.
                self.leave()
                self._base = base
                self.page.goto(f"{base}/#")
            else:
                self.page.evaluate(CLEAR)
            self.page.locator("body[data-view=runs]").wait_for()
            self.page.evaluate("place => location.hash = place", place)
        self._kept = here if keep else ""
        return self.page

    def leave(self) -> None:
        """Show no page, so that none misses its server."""
        self.page.goto("about:blank")
        self._base = self._kept = ""


@pytest.fixture(scope="session")
def tab(browser: Any) -> Iterator[Tab]:
    """Closed in the end."""
    tab = Tab(browser)
    yield tab
    tab.page.context.close()


@pytest.fixture
def visit(tab: Tab, address: str) -> Iterator[Callable[..., Any]]:
    """Show a place of the page in the tab of all tests; any error it reports fails the test.

    A test that only reads, or changes what no other test reads, gives keep=True and finds the page as others
    left it, which takes a fraction of the time. What is typed into the list of runs stays there: a test that
    searches it takes `open_page`.
    """
    tab.problems.clear()

    def visit(place: str, *, base: str = address, keep: bool = False) -> Any:
        return tab.visit(place, base=base, keep=keep)

    yield visit
    assert not tab.problems, tab.problems


@pytest.fixture
def open_page(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Open the page at an address after `#`, in a tab that fails the test on any error it reports."""
    problems: list[str] = []
    contexts: list[Any] = []

    def open_(place: str, *, base: str = address, quiet: bool = True, **context: Any) -> Any:
        contexts.append(browser.new_context(**{**DESKTOP, **context}))
        page = contexts[-1].new_page()
        page.set_default_timeout(TIMEOUT_MS)
        if quiet:
            hear(page, problems)
        page.on("request", lambda r: problems.append(f"foreign: {r.url}") if not own(r.url, base) else None)
        page.goto(f"{base}/{place}")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not problems, problems


def hear(page: Any, problems: list[str]) -> None:
    """Have errors of a page added to a list."""
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)


def own(url: str, base: str) -> bool:
    """Whether an address is of this server, or of none."""
    return url.startswith((base, "blob:", "data:"))
