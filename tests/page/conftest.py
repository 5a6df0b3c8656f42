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


@contextmanager
def running(root: Path, *options: str) -> Iterator[str]:
    """The address of a server over `root` while it is up."""
    with serving(root, *options) as client:
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


@pytest.fixture
def open_page(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Open the page at an address after `#`, in a tab that fails the test on any error it reports."""
    problems: list[str] = []
    contexts: list[Any] = []

    def open_(place: str, *, base: str = address, quiet: bool = True, **context: Any) -> Any:
        context = {"viewport": {"width": 1440, "height": 1000}, **context}
        contexts.append(browser.new_context(**context))
        page = contexts[-1].new_page()
        page.set_default_timeout(15_000)
        if quiet:
            page.on("pageerror", lambda error: problems.append(f"error: {error}"))
            page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
        page.on("request", lambda r: problems.append(f"foreign: {r.url}") if not _own(r.url, base) else None)
        page.goto(f"{base}/{place}")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not problems, problems


def _own(url: str, base: str) -> bool:
    return url.startswith((base, "blob:", "data:"))
