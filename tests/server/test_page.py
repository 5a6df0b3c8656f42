"""The page in a real browser: every panel shows the number that the file holds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from fettle.api import open_run
from fettle.runs.samples import load_samples
from server.conftest import BARE, HOSTILE, OTHER, PATTERN, RICH

Open = Callable[..., Any]


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
    for _ in range(150):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"never true: {condition}")


def records(run: Path, type: str) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["type"] == type]


# -- every panel shows the file's number ------------------------------------------------------


def test_the_verdict_stands_on_top_with_its_reasons(open_page: Open, runs: Path) -> None:
    verdict = open_run(runs / RICH).verdict().to_json()
    page = open_page(at(RICH))
    shows(page, "#verdict", verdict["recommendation"])
    shown = text(page, "#verdict")
    assert verdict["action"] in shown.lower()
    assert verdict["reasons"][0] in shown
    judged = verdict["evidence"]["judged_eval"]
    assert f"{100 * judged['exact_match']:.1f} %" in shown
    assert f"{judged['cross_entropy']:.3f}" in shown
    assert f"{judged['expected_calibration_error']:.3f}" in shown
    page.locator("#verdict summary").click()
    assert verdict["reasons"][-1] in text(page, "#verdict")


def test_loss_shows_the_last_values_of_the_log(open_page: Open, runs: Path) -> None:
    last, evaluated = records(runs / RICH, "train")[-1], records(runs / RICH, "fixed_eval")[-1]
    page = open_page(at(RICH, **{"from": 1900, "to": 2000}))
    shows(page, "#loss .legend", f"{last['loss']:.3f}")
    shows(page, "#loss .legend", f"{last['streaming_ce']:.3f}")
    shows(page, "#loss .legend", f"{evaluated['cross_entropy']:.3f}")


def test_fixed_eval_shows_numbers_with_their_intervals(open_page: Open, runs: Path) -> None:
    last = records(runs / RICH, "fixed_eval")[-1]
    page = open_page(at(RICH))
    panel(page, "evaluation")
    low, high = (f"{100 * last[f'exact_match_{end}']:.1f}" for end in ("low", "high"))
    shows(page, "#evaluation", f"{100 * last['exact_match']:.1f} % ({low} % to {high} %)")
    low, high = (f"{last[f'cross_entropy_{end}']:.3f}" for end in ("low", "high"))
    shows(page, "#evaluation", f"{last['cross_entropy']:.3f} ({low} to {high})")
    shows(page, "#evaluation", f"{last['expected_calibration_error']:.3f}")


def test_a_cell_of_the_heatmap_leads_to_its_samples(open_page: Open, runs: Path) -> None:
    samples = load_samples(runs / RICH / "fixed_eval", 2000)
    assert samples is not None
    inside = (samples.pattern == "reasoning") & (samples.tokens >= 100) & (samples.tokens < 300)
    exact = 100 * samples.exact_match[inside].mean()
    page = open_page(at(RICH))
    panel(page, "patterns")
    cell = page.get_by_role("button", name=re.compile("^reasoning, 100-300 tokens"))
    assert re.findall(r"\d+", cell.inner_text()) == [f"{exact:.0f}", str(inside.sum())]
    cell.click()
    shows(page, "#samples", f"of {inside.sum()}")
    assert set(page.locator("#samples tbody td:nth-child(2)").all_inner_texts()) == {"reasoning"}


def test_layers_show_their_movement(open_page: Open, runs: Path) -> None:
    rows = records(runs / RICH, "layers")[-1]["rows"]
    top = max(rows, key=lambda row: row["relative"])
    page = open_page(at(RICH))
    panel(page, "layers")
    shows(page, "#layers tbody tr:first-child", f"layer {top['layer']}")
    shows(page, "#layers tbody tr:first-child", f"{100 * top['relative']:.3f} %")
    assert page.locator("#layers tbody tr").count() == 5
    shows(page, "#layers", "Did not move: layer 27")
    page.locator("#layers").get_by_role("button", name="all").click()
    assert page.locator("#layers tbody tr").count() == len(rows)
    page.locator("#layers").get_by_role("button", name="layer × group").click()
    qkv = rows[3]["groups"]["qkv"]["relative"]
    assert f"{100 * qkv:.3f}" in text(page, "#layers tbody tr:nth-child(4)")


@pytest.mark.parametrize(
    ("name", "column", "shown"),
    [
        ("optimiser", "learning_rate", lambda v: f"{v:.2e}".replace("e-0", "e-")),
        ("optimiser", "grad_norm", lambda v: f"{v:.3f}"),
        ("speed", "tokens_per_sec", lambda v: f"{v / 1000:.3f}".replace(".", " ")),
        ("speed", "step_time", lambda v: f"{v:.2f} s"),
    ],
)
def test_curves_of_training_show_the_last_value_of_the_window(
    open_page: Open, runs: Path, name: str, column: str, shown: Callable[[float], str]
) -> None:
    last = records(runs / RICH, "train")[1899][column]
    page = open_page(at(RICH, **{"from": 1800, "to": 1900}))
    panel(page, name)
    shows(page, f"#{name} .legend", shown(last))


def test_the_machine_shows_memory_and_load(open_page: Open, runs: Path) -> None:
    last = records(runs / RICH, "system")[-1]
    page = open_page(at(RICH))
    panel(page, "machine")
    shows(page, "#machine", f"{last['gpu_memory_used'] / 1e9:.1f} GB")
    shows(page, "#machine", f"{100 * last['gpu_utilization']:.0f} %")
    shows(page, "#machine", f"{last['gpu_temperature']:.0f} °C")
    shows(page, "#machine", f"{100 * last['host_cpu']:.0f} %")


def test_entropy_stands_beside_cross_entropy(open_page: Open, runs: Path) -> None:
    last = records(runs / RICH, "fixed_eval")[-1]
    page = open_page(at(RICH))
    panel(page, "entropy")
    shows(page, "#entropy .legend", f"{last['entropy']:.3f}")


def test_checkpoints_show_score_and_components(open_page: Open, runs: Path) -> None:
    checkpoint = next(c for c in open_run(runs / RICH).checkpoints() if c.step == 1200)
    page = open_page(at(RICH))
    panel(page, "checkpoints")
    row = page.locator("#checkpoints tbody tr").filter(has_text=re.compile(r"^1\s200"))
    shown = re.sub(r"\s+", " ", row.inner_text()).replace("−", "-")
    assert checkpoint.score is not None
    for number in (checkpoint.score, *checkpoint.components.values(), checkpoint.cross_entropy):
        assert f"{number:.3f}" in shown
    assert "use this" in shown
    assert "50." in shown  # kB
    row.get_by_role("button").click()
    shows(page, "#toast", "copied" if "copied" in text(page, "#toast") else str(checkpoint.path))


def test_alerts_say_what_to_do(open_page: Open) -> None:
    page = open_page(at(RICH))
    panel(page, "alerts")
    shows(page, "#alerts .alert", "Halve the learning rate, or use a checkpoint near step 900.")
    assert page.locator("#alerts > .panel-body > .alerts > .alert").count() == 2
    shows(page, "#alerts summary", "1 resolved")


def test_predictions_differ_word_by_word_from_the_truth(open_page: Open, runs: Path) -> None:
    rows = [
        json.loads(line)
        for line in (runs / RICH / "predictions" / "predictions.jsonl").read_text().splitlines()
    ]
    wrong = next(row for row in rows if not row["exact_match"] and row["pattern"] == "factual")
    page = open_page(at(RICH, prompt=wrong["prompt_id"], said=wrong["step"]))
    panel(page, "predictions")
    shows(page, "#predictions .diff", "")
    missing = "".join(page.locator("#predictions .diff del").all_inner_texts())
    extra = "".join(page.locator("#predictions .diff ins").all_inner_texts())
    difference = page.locator("#predictions .diff").inner_text()
    assert missing
    assert extra
    assert len(difference) == len(wrong["ground_truth"]) + len(extra)
    assert wrong["prediction"] in page.locator("#predictions").inner_text()
    page.get_by_role("button", name="Later prediction").click()
    shows(page, "#predictions .timeline b", f"step {wrong['step'] + 100}")


def test_samples_are_filtered_by_what_became_of_them(open_page: Open, runs: Path) -> None:
    forgotten = open_run(runs / RICH).verdict().to_json()["evidence"]["samples"]["forgotten"]
    page = open_page(at(RICH, history="forgotten"))
    panel(page, "samples")
    shows(page, "#samples", f"of {forgotten}")
    assert set(page.locator("#samples tbody td:nth-child(6)").all_inner_texts()) == {"forgotten"}


def test_the_log_is_filtered_and_searched(open_page: Open) -> None:
    page = open_page(at(RICH))
    panel(page, "log")
    shows(page, "#log", "step 2000 of 2000")
    page.locator("#log select").select_option("ERROR")
    shows(page, "#log .chip", "×2")
    assert page.locator("#log li").count() == 1
    page.locator("#log select").select_option("")
    page.get_by_placeholder("Search the log").fill("longest 2311")
    shows(page, "#log .footnote", "20 of 20 lines that fit")


def test_configuration_and_provenance_are_there(open_page: Open) -> None:
    page = open_page(at(RICH))
    panel(page, "configuration")
    shows(page, "#configuration", "learning_rate: 0.0002")
    shows(page, "#configuration", "xxh3:9b1c2f")


# -- honesty ---------------------------------------------------------------------------------


def test_values_that_are_no_numbers_are_told_apart(open_page: Open) -> None:
    page = open_page(at(RICH, **{"from": 600, "to": 620}))
    shows(page, "#loss .chart-note", "1 × NaN, first near step 612")
    shows(page, "#loss .chart-note", "1 × +Inf, first near step 613")
    assert coloured(page, "#loss", "--critical", top=0.0, bottom=0.12) > 10


def test_a_spike_of_one_step_is_drawn_to_its_top(open_page: Open) -> None:
    page = open_page(at(RICH))
    shows(page, "#loss .legend", "0.")
    page.wait_for_timeout(500)
    # Nothing but the spike, 4.2 among values below 2.4, reaches the upper third.
    assert coloured(page, "#loss", "--line-faint", top=0.08, bottom=0.30, tolerance=60) > 20


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
            if (data[i + 3] > 100 && Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < tolerance) found += 1;
          }
          return found;
        }""",
        [selector, name, top, bottom, tolerance],
    )


def test_what_was_not_measured_is_never_a_zero(open_page: Open) -> None:
    page = open_page(at(BARE))
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


def test_names_from_a_run_are_text_and_nothing_else(open_page: Open) -> None:
    page = open_page(at(HOSTILE))
    shows(page, "h1", HOSTILE)
    panel(page, "patterns")
    shows(page, "#patterns th", PATTERN)
    panel(page, "samples")
    shows(page, "#samples td", PATTERN)
    assert page.locator("main img, #runs img, main b:text-is('kind')").count() == 0
    assert page.evaluate("window.broken") is None
    page.goto(page.url.split("#")[0] + "#")
    shows(page, ".runs-table", HOSTILE)
    assert page.locator("img").count() == 0


# -- use -------------------------------------------------------------------------------------


def test_a_drag_zooms_all_charts_and_the_link_keeps_it(open_page: Open) -> None:
    page = open_page(at(RICH))
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
    page.wait_for_timeout(500)
    assert any("from=" in url and "y=loss" in url for url in asked)
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


@pytest.mark.parametrize("place", [at(RICH), "#", f"#compare={RICH},{OTHER}", at(HOSTILE)])
def test_a_phone_never_scrolls_sideways(open_page: Open, place: str) -> None:
    page = open_page(place, viewport={"width": 390, "height": 844}, has_touch=True)
    page.locator("h1").wait_for()
    for _ in range(12):
        page.mouse.wheel(0, 700)
        page.wait_for_timeout(120)
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


def test_arrows_read_a_chart(open_page: Open) -> None:
    page = open_page(at(RICH))
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


def test_every_control_has_a_name(open_page: Open) -> None:
    page = open_page(at(RICH))
    for name in ("patterns", "layers", "checkpoints", "predictions", "samples", "log", "configuration"):
        panel(page, name)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, a, input, select, [tabindex='0'], section")].filter((e) => {
          const label = e.getAttribute("aria-label") || e.textContent.trim() || e.closest("label")?.textContent.trim();
          return !label;
        }).map((e) => e.outerHTML.slice(0, 120))"""
    )
    assert nameless == []


def test_runs_are_compared(open_page: Open) -> None:
    page = open_page("#")
    for name in (RICH, OTHER):
        page.locator("main").get_by_label(f"Compare {name}").check()
    page.locator("main").get_by_role("link", name="Compare 2 runs").click()
    shows(page, "main", "training.learning_rate")
    shows(page, "main td", "0.0001")
    shows(page, "main", "Exact match")
    assert page.locator("main .legend-entry").count() == 2
    page.get_by_label("Metric").select_option("exact_match")
    shows(page, "main .legend", "%")


def test_a_chart_is_saved_as_a_picture(open_page: Open, tmp_path: Path) -> None:
    page = open_page(at(RICH))
    shows(page, "#loss .legend", "0.")
    page.wait_for_timeout(500)
    page.keyboard.press("e")
    with page.expect_download() as download:
        page.get_by_role("button", name="Loss in nats per completion token").click()
    picture = tmp_path / "loss.png"
    download.value.save_as(picture)
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert np.frombuffer(picture.read_bytes()[16:24], ">u4")[0] > 600


def test_runs_are_sorted_by_their_headings(open_page: Open) -> None:
    page = open_page("#")
    names = page.locator(".runs-table tbody th a")
    page.get_by_role("button", name="Exact match").click()
    page.locator("th[aria-sort=descending]").filter(has_text="Exact match").wait_for()
    until(page, "document.querySelectorAll('.runs-table tbody tr').length === 4")
    page.wait_for_timeout(500)
    shares = [
        float(value.replace("\u202f%", ""))
        for value in page.locator(".runs-table tbody td:nth-child(7)").all_inner_texts()
        if "%" in value
    ]
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)
    page.get_by_role("button", name=re.compile("^Run")).click()
    page.locator("th[aria-sort=ascending]").filter(has_text="Run").wait_for()
    page.wait_for_timeout(500)
    assert names.all_inner_texts() == sorted(names.all_inner_texts())
