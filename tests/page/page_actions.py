"""What a reader does with the page, and sees there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote


def at(run: str, **more: Any) -> str:
    """The place of a run in the page."""
    return "#" + "&".join(f"{key}={quote(str(value))}" for key, value in {"run": run, **more}.items())


def text(page: Any, selector: str) -> str:
    """What a reader sees there, with plain spaces and minus signs."""
    return re.sub(r"[\u202f\xa0\s]+", " ", page.locator(selector).first.inner_text()).replace("−", "-")


def panel(page: Any, name: str) -> Any:
    """A panel, scrolled to so that it is filled."""
    section = page.locator(f"#{name}")
    section.scroll_into_view_if_needed()
    section.locator(".panel-body > *").first.wait_for(state="attached")
    return section


def shows(page: Any, selector: str, expected: str) -> None:
    """Wait until the text is there."""
    # Numbers are set with narrow spaces; the pattern takes any.
    pattern = re.escape(expected).replace(r"\ ", r"\s")
    page.locator(selector).filter(has_text=re.compile(pattern)).first.wait_for(state="attached")


def until(page: Any, condition: str) -> None:
    """Wait for a JavaScript condition; Playwright's own way of it is refused by the page's CSP."""
    holds(page, lambda: page.evaluate(condition), condition)


def holds(page: Any, condition: Callable[[], object], what: str = "what was waited for") -> None:
    """Wait for a condition of ours."""
    for _ in range(750):
        if condition():
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"never true: {what}")


def records(run: Path, type: str) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["type"] == type]


def coloured(page: Any, selector: str, name: str, *, top: float, bottom: float, tolerance: int = 24) -> int:
    """Pixels of a colour of the style sheet in a strip of the chart, by shares of its height."""
    return page.evaluate(
        """([selector, name, top, bottom, tolerance]) => {
          const canvas = document.querySelector(`${selector} canvas`);
          const probe = document.createElement("span");
          probe.style.color = `var(${name})`;
          document.body.append(probe);
          const [r, g, b] = getComputedStyle(probe).color.match(/\\d+/g).map(Number);
          probe.remove();
          const [from, to] = [top, bottom].map((share) => Math.round(share * canvas.height));
          const { data } = canvas.getContext("2d").getImageData(0, from, canvas.width, to - from);
          let found = 0;
          for (let i = 0; i < data.length; i += 4) {
            const distance = Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b);
            if (data[i + 3] > 100 && distance < tolerance) found += 1;
          }
          return found;
        }""",
        [selector, name, top, bottom, tolerance],
    )
