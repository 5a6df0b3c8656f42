"""A real Chromium for the tests of the page; where there is none they skip, and fail in CI."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path(os.environ.get("FETTLE_CHROMIUM", "/usr/bin/chromium"))


def absent(what: str) -> None:
    """Skip on somebody's laptop, fail where everything must be there."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and CI must test the page")
    pytest.skip(f"{what} is missing")


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser that is closed in the end."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        absent("playwright")
        raise
    if not CHROMIUM.exists():
        absent(f"{CHROMIUM} (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
