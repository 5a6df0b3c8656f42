"""A training launched from the page, paused, saved and stopped there: a real server, trainer and browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from page.conftest import running
from page.page_actions import shows
from server.launchable import YAML, launchable

Open = Callable[..., Any]


@pytest.mark.timeout(400)
def test_a_training_is_launched_and_stopped_from_the_page(open_page: Open, tmp_path: Path) -> None:
    root = launchable(tmp_path / "runs")
    with running(root) as base:
        page = open_page("", base=base)
        shows(page, "h1", "Runs")
        assert not page.locator("#open-launch").is_visible()
        page.keyboard.press("n")
        shows(page, "#toast", "--control")
        assert not page.locator("#launch").is_visible()
        page.close()
    with running(root, "--control") as base:
        page = open_page("", base=base, quiet=False)
        page.locator("#open-launch").wait_for()
        page.keyboard.press("n")
        text, launch = page.get_by_label("Configuration"), page.locator("#launch")
        shows(page, "#launch .jobs", "Nothing was launched yet")
        text.fill(YAML.replace("rank", "rnak"))
        launch.get_by_role("button", name="Launch").click()
        shows(page, "#launch .problem", "unknown key 'rnak'. Did you mean 'rank'?")
        text.fill(YAML)
        for count in (1, 2):
            launch.get_by_role("button", name="Launch").click()
            page.locator("#launch .jobs li").nth(count - 1).wait_for()
        assert page.locator("#launch .problem").first.inner_text() == ""
        shows(page, "#launch .jobs", "in the queue")
        launch.get_by_role("button", name="Cancel").first.click()
        shows(page, "#launch .jobs li:first-child", "cancelled")
        page.set_default_timeout(90_000)
        shows(page, "#launch .jobs li:last-child", "running")
        page.locator("#launch .jobs a").click()
        assert not launch.is_visible()
        shows(page, ".run-title", "running")
        page.keyboard.press("p")
        shows(page, ".run-title", "paused")
        shows(page, ".run-facts", "pause on request at step")
        page.keyboard.press("s")
        page.locator("#checkpoints").scroll_into_view_if_needed()
        page.locator("#checkpoints tbody tr").first.wait_for()
        page.get_by_role("button", name="Resume").click()
        shows(page, ".run-title", "running")
        page.once("dialog", lambda dialog: dialog.accept())
        page.keyboard.press("c")
        shows(page, ".run-title", "interrupted")
        shows(page, ".run-facts", "stopped on request")
        page.keyboard.press("n")
        shows(page, "#launch .jobs li:last-child", "cancelled")
        page.close()
