"""How the page is used: zoom, links, keyboard, phone, comparison, downloads."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from page.conftest import HOSTILE, OTHER, RICH
from page.page_actions import at, holds, panel, shows, text, until

Open = Callable[..., Any]


def test_a_drag_zooms_all_charts_and_the_link_keeps_it(open_page: Open) -> None:
    page = open_page(at(RICH))
    # What stands above the chart moves it until it is there.
    for above in ("#verdict .tile", "#alerts .alert", "#loss .u-over"):
        page.locator(above).first.wait_for()
    shows(page, "#loss .legend", "0.")
    over = page.locator("#loss .u-over")
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url) if "/series" in r.url else None)
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 60, steps=4)
    page.mouse.up()
    page.wait_for_url(re.compile(r"from=(49\d|50\d)&to=(99\d|100\d)"))
    holds(page, lambda: any("from=" in url and "y=loss" in url for url in asked))
    page.reload()
    until(page, "document.querySelector('[aria-label=\"from step\"]')?.value")
    assert 490 <= int(page.get_by_label("from step").input_value()) <= 505
    page.get_by_role("button", name="All steps").click()
    page.wait_for_url(re.compile(r"^[^&]*$"))


def test_a_link_restores_the_view(open_page: Open) -> None:
    page = open_page(at(RICH, log=1, eval=500, pattern="math", history="learned"))
    shows(page, "#verdict", "Exact match")
    assert page.get_by_label("log scale").is_checked()
    panel(page, "samples")
    page.locator("#samples tbody tr").first.wait_for()
    assert set(page.locator("#samples tbody td:nth-child(2)").all_inner_texts()) == {"math"}
    assert page.locator("#patterns select").input_value() == "500"


def test_a_collapsed_panel_stays_collapsed(open_page: Open) -> None:
    page = open_page(at(RICH))
    toggle = page.get_by_role("button", name="Alerts", exact=True)
    toggle.click()
    assert toggle.get_attribute("aria-expanded") == "false"
    page.reload()
    toggle = page.get_by_role("button", name="Alerts", exact=True)
    toggle.wait_for()
    assert toggle.get_attribute("aria-expanded") == "false"
    assert not page.locator("#alerts-body").is_visible()


def test_dark_is_the_system_s_or_the_reader_s_choice(open_page: Open) -> None:
    page = open_page(at(RICH), color_scheme="dark")
    shows(page, "#loss .legend", "0.")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Theme").click()
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != light
    page.reload()
    page.locator("h1").wait_for()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == light


@pytest.mark.parametrize(
    ("place", "filled"),
    [
        (at(RICH), ".panel[id]"),
        ("#", ".runs-table tbody tr"),
        (f"#compare={RICH},{OTHER}", "main .u-over"),
        (at(HOSTILE), ".panel[id]"),
    ],
)
def test_a_phone_never_scrolls_sideways(open_page: Open, place: str, filled: str) -> None:
    page = open_page(place, viewport={"width": 390, "height": 844}, has_touch=True)
    page.locator(filled).first.wait_for()
    for name in page.locator(".panel[id]").evaluate_all("panels => panels.map(panel => panel.id)"):
        panel(page, name)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_everything_can_be_done_by_keyboard(open_page: Open) -> None:
    page = open_page(at(RICH))
    shows(page, "#loss .legend", "0.")
    page.keyboard.press("?")
    shows(page, "dialog[open]", "Keyboard shortcuts")
    page.keyboard.press("Escape")
    page.keyboard.press("e")
    shows(page, "dialog[open]", "Everything as JSON")
    page.keyboard.press("Escape")
    page.keyboard.press("p")
    shows(page, "#toast", "--control")
    page.keyboard.press("/")
    page.keyboard.type("lr1e-4")
    until(page, "document.querySelectorAll('.run-items li').length === 1")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    shows(page, "h1", OTHER)
    page.keyboard.press("l")
    until(page, "document.activeElement.closest('#log') !== null")
    page.keyboard.press("Enter")
    assert page.locator("#log .panel-toggle").get_attribute("aria-expanded") == "false"


def test_arrows_read_a_chart(visit: Open) -> None:
    page = visit(at(RICH))
    shows(page, "#loss .legend", "0.")
    page.locator("#loss .chart").focus()
    before = text(page, "#loss .legend")
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    shows(page, "#loss .legend-where", "step")
    assert text(page, "#loss .legend") != before
    page.keyboard.press("+")
    page.wait_for_url(re.compile("from="))
    page.keyboard.press("0")
    page.wait_for_url(re.compile(r"^[^&]*$"))


def test_every_control_has_a_name(visit: Open) -> None:
    page = visit(at(RICH), keep=True)
    for name in ("patterns", "layers", "checkpoints", "predictions", "samples", "log", "configuration"):
        panel(page, name)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, a, input, select, [tabindex='0'], section")]
          .filter((e) => !e.getAttribute("aria-label") && !e.textContent.trim())
          .filter((e) => !e.closest("label")?.textContent.trim())
          .map((e) => e.outerHTML.slice(0, 120))"""
    )
    assert nameless == []


def test_runs_are_compared(visit: Open) -> None:
    page = visit("")
    for name in (RICH, OTHER):
        page.locator("main").get_by_label(f"Compare {name}").check()
    page.locator("main").get_by_role("link", name="Compare 2 runs").click()
    shows(page, "main", "training.learning_rate")
    shows(page, "main td", "0.0001")
    shows(page, "main", "Exact match")
    expect(page.locator("main .legend-entry")).to_have_count(2)
    page.get_by_label("Metric").select_option("exact_match")
    shows(page, "main .legend", "%")


def test_a_chart_is_saved_as_a_picture(visit: Open, tmp_path: Path) -> None:
    page = visit(at(RICH))
    shows(page, "#loss .legend", "0.")
    page.locator("#loss .u-over").wait_for()
    page.keyboard.press("e")
    with page.expect_download() as download:
        page.get_by_role("button", name="Loss in nats per completion token").click()
    picture = tmp_path / "loss.png"
    download.value.save_as(picture)
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert np.frombuffer(picture.read_bytes()[16:24], ">u4")[0] > 600


def test_runs_are_sorted_by_their_headings(visit: Open) -> None:
    page = visit("")
    names = page.locator(".runs-table tbody th a")
    page.get_by_role("button", name="Exact match").click()
    page.locator("th[aria-sort=descending]").filter(has_text="Exact match").wait_for()
    until(page, "document.querySelectorAll('.runs-table tbody tr').length === 4")

    def shares() -> list[float]:
        shown = page.locator(".runs-table tbody td:nth-child(7)").all_inner_texts()
        return [float(value.replace("\u202f%", "")) for value in shown if "%" in value]

    holds(page, lambda: len(shares()) == 3 and shares() == sorted(shares(), reverse=True))
    page.get_by_role("button", name=re.compile("^Run")).click()
    page.locator("th[aria-sort=ascending]").filter(has_text="Run").wait_for()
    holds(page, lambda: names.all_inner_texts() == sorted(names.all_inner_texts()))
