"""A report, opened from disk in a real browser: the page with its numbers, and no server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from playwright.sync_api import expect

from fettle.api import open_run
from fettle.cli import cli
from page.conftest import HOSTILE, PATTERN, RICH
from page.page_actions import coloured, panel, records, shows, text

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def reports(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    written = {RICH: folder / "rich report.html", HOSTILE: folder / "hostile.html"}
    for run, out in written.items():
        CliRunner().invoke(cli, ["report", str(runs / run), "-o", str(out)], catch_exceptions=False)
    return written


@pytest.fixture
def open_report(browser: Any) -> Iterator[Open]:
    """Open a report; the test fails on any error it reports, and on any request but that for the file."""
    problems: list[str] = []
    contexts: list[Any] = []

    def open_(path: Path, *, quiet: bool = True, **context: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": 1440, "height": 1000}, **context))
        page = contexts[-1].new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        if quiet:
            page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
        page.on("request", lambda r: asked.append(r.url))
        asked: list[str] = []
        page.goto(path.as_uri())
        page.locator(".panel").first.wait_for()
        assert all(url.startswith(("data:", "blob:")) for url in asked[1:]), asked
        page.on("request", lambda r: problems.append(f"asked: {r.url}"))
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not problems, problems


def test_a_report_shows_the_numbers_of_the_files(
    open_report: Open, reports: dict[str, Path], runs: Path
) -> None:
    run = runs / RICH
    verdict = open_run(run).verdict().to_json()
    evaluated, last = records(run, "fixed_eval")[-1], records(run, "train")[-1]
    page = open_report(reports[RICH])
    shows(page, "h1", RICH)
    shows(page, "#verdict", verdict["recommendation"])
    shows(page, "#loss .legend", f"{last['loss']:.3f}")
    shows(page, "#loss .legend", f"{evaluated['cross_entropy']:.3f}")
    for name in ("evaluation", "patterns", "layers", "checkpoints", "predictions", "samples", "log"):
        panel(page, name)
    shows(page, "#evaluation", f"{100 * evaluated['exact_match']:.1f} %")
    machine = records(run, "system")[-1]
    panel(page, "machine")
    shows(page, "#machine", f"{machine['gpu_memory_used'] / 1e9:.1f} GB")
    panel(page, "configuration")
    shows(page, "#configuration", "learning_rate: 0.0002")
    assert page.locator(".problem:not(:empty)").count() == 0
    assert text(page, ".report-note").startswith("Report of 20")


def test_a_spike_and_a_nan_are_in_the_report(open_report: Open, reports: dict[str, Path]) -> None:
    page = open_report(reports[RICH])
    shows(page, "#loss .chart-note", "1 × NaN, first near step 612")
    page.wait_for_timeout(300)
    assert coloured(page, "#loss", "--line-faint", top=0.08, bottom=0.30, tolerance=60) > 20


def test_zooming_shows_the_points_of_the_window(
    open_report: Open, reports: dict[str, Path], runs: Path
) -> None:
    page = open_report(reports[RICH])
    shows(page, "#loss .legend", "0.")
    page.get_by_label("from step").fill("300")
    page.get_by_label("to step").fill("400")
    page.get_by_label("to step").press("Enter")
    shows(page, "#loss .legend", f"{records(runs / RICH, 'train')[399]['loss']:.3f}")
    assert page.url.endswith("from=300&to=400")
    page.get_by_role("button", name="All steps").click()
    shows(page, "#loss .legend", f"{records(runs / RICH, 'train')[-1]['loss']:.3f}")


def test_samples_evals_and_log_lines_are_chosen_within_the_report(
    open_report: Open, reports: dict[str, Path], runs: Path
) -> None:
    forgotten = open_run(runs / RICH).verdict().to_json()["evidence"]["samples"]["forgotten"]
    page = open_report(reports[RICH])
    panel(page, "samples")
    shows(page, "#samples .pager", "1 to 25 of 400")
    page.get_by_role("button", name="Next").click()
    shows(page, "#samples .pager", "26 to 50 of 400")
    page.locator("#samples select").first.select_option("forgotten")
    shows(page, "#samples .pager", f"of {forgotten}")
    assert set(page.locator("#samples tbody td:nth-child(6)").all_inner_texts()) == {"forgotten"}
    panel(page, "log")
    page.get_by_placeholder("Search the log").fill("Longest 2311")
    shows(page, "#log .footnote", "20 of 20 lines that fit")
    page.get_by_placeholder("Search the log").fill("")
    page.locator("#log select").select_option("error")
    expect(page.locator("#log li")).to_have_count(1)


def test_samples_of_another_eval_are_not_passed_off_as_its_own(
    open_report: Open, reports: dict[str, Path]
) -> None:
    page = open_report(reports[RICH], quiet=False)
    panel(page, "samples")
    shows(page, "#samples .pager", "of 400")
    panel(page, "patterns")  # What nobody saw is not there.
    page.locator("#patterns select").select_option("1000")
    shows(page, "#samples .problem", "This report holds the samples of step 2000.")
    page.locator("#patterns select").select_option("")
    expect(page.locator("#samples .problem")).to_be_empty()


def test_a_report_offers_only_what_it_can_do(open_report: Open, reports: dict[str, Path]) -> None:
    page = open_report(reports[RICH])
    expect(page.locator("#toggle-runs")).to_be_hidden()
    expect(page.locator("#runs")).to_be_hidden()
    page.locator("#open-export").click()
    assert page.locator("#export a").count() == 0
    with page.expect_download() as download:
        page.locator("#export").get_by_role("button", name="Loss in nats").click()
    assert download.value.suggested_filename.endswith(".png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_follows_the_system_and_the_choice(
    open_report: Open, reports: dict[str, Path], scheme: str
) -> None:
    page = open_report(reports[RICH], color_scheme=scheme)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    page.locator("#toggle-theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") != scheme


def test_names_of_a_run_are_text_in_its_report(open_report: Open, reports: dict[str, Path]) -> None:
    page = open_report(reports[HOSTILE])
    shows(page, "h1", HOSTILE)
    assert page.title().startswith(HOSTILE)
    panel(page, "patterns")
    shows(page, "#patterns th", PATTERN)
    assert page.locator("main img, main b:text-is('kind')").count() == 0
    assert page.evaluate("window.broken") is None


def test_the_policy_lets_no_other_script_run(browser: Any, reports: dict[str, Path], tmp_path: Path) -> None:
    tampered = tmp_path / "tampered.html"
    script = "<script>window.broken = 1</script>"
    tampered.write_text(
        reports[RICH].read_text().replace("</body>", f"{script}<img src=x onerror=broken=2></body>")
    )
    page = browser.new_page()
    refused: list[str] = []
    page.on("console", lambda m: refused.append(m.text) if m.type == "error" else None)
    page.goto(tampered.as_uri())
    page.locator(".panel").first.wait_for()
    page.wait_for_timeout(200)
    assert page.evaluate("window.broken") is None
    assert any("Content Security Policy" in text for text in refused)
    page.close()


def test_a_run_of_another_tool_opens_from_disk(open_report: Open, tmp_path: Path) -> None:
    rows = [{"step": step, "loss": 2 + 1 / step, "learning_rate": 1e-4} for step in range(1, 51)]
    run = tmp_path / "output"
    run.mkdir()
    state = {"global_step": 50, "max_steps": 50, "log_history": [*rows, {"step": 50, "eval_loss": 1.25}]}
    (run / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    out = tmp_path / "report.html"
    CliRunner().invoke(cli, ["report", str(run), "-o", str(out)], catch_exceptions=False)
    page = open_report(out)
    shows(page, "#loss .legend", "2.020")
    shows(page, "#loss .legend", "1.250")
    panel(page, "machine")
    shows(page, "#machine", "not measured")
    panel(page, "log")
    shows(page, "#log", "The log is empty.")


def test_the_page_offers_its_report_as_a_download(
    open_page: Open, open_report: Open, runs: Path, tmp_path: Path
) -> None:
    page = open_page(f"#run={RICH}")
    shows(page, "h1", RICH)
    page.locator("#open-export").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="HTML report").click()
    assert re.fullmatch(r"[\w.-]+\.html", download.value.suggested_filename)
    download.value.save_as(tmp_path / "report.html")
    shows(
        open_report(tmp_path / "report.html"),
        "#verdict",
        open_run(runs / RICH).verdict().to_json()["recommendation"],
    )
