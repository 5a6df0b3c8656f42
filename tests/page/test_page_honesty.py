"""The page invents nothing, hides nothing, and takes names for text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from page.conftest import BARE, HOSTILE, PATTERN, RICH
from page.page_actions import at, coloured, holds, panel, shows, text

Open = Callable[..., Any]


def test_values_that_are_no_numbers_are_told_apart(visit: Open) -> None:
    page = visit(at(RICH, **{"from": 600, "to": 620}))
    shows(page, "#loss .chart-note", "1 × NaN, first near step 612")
    shows(page, "#loss .chart-note", "1 × +Inf, first near step 613")
    holds(page, lambda: coloured(page, "#loss", "--critical", top=0.0, bottom=0.12) > 10)


def test_a_spike_of_one_step_is_drawn_to_its_top(visit: Open) -> None:
    page = visit(at(RICH))
    shows(page, "#loss .legend", "0.")
    # Nothing but the spike, 4.2 among values below 2.4, reaches the upper third.
    holds(page, lambda: coloured(page, "#loss", "--line-faint", top=0.08, bottom=0.30, tolerance=60) > 20)


def test_what_was_not_measured_is_never_a_zero(visit: Open) -> None:
    page = visit(at(BARE))
    shows(page, "#verdict", "not measured")
    assert page.locator("#verdict .tile-number").count() == 0
    for name in ("patterns", "layers", "predictions", "samples"):
        panel(page, name)
        shows(page, f"#{name}", "Not measured")
    panel(page, "machine")
    shows(page, "#machine", "not measured")
    panel(page, "evaluation")
    shows(page, "#evaluation", "No fixed eval yet")
    assert "0.0" not in text(page, "#evaluation .legend")


def test_names_from_a_run_are_text_and_nothing_else(visit: Open) -> None:
    page = visit(at(HOSTILE))
    shows(page, "h1", HOSTILE)
    panel(page, "patterns")
    shows(page, "#patterns th", PATTERN)
    panel(page, "samples")
    shows(page, "#samples td", PATTERN)
    assert page.locator("main img, #runs img, main b:text-is('kind')").count() == 0
    assert page.evaluate("window.broken") is None
    page.evaluate("location.hash = ''")
    shows(page, ".runs-table", HOSTILE)
    assert page.locator("img").count() == 0
