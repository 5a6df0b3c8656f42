"""Every panel shows the number that the file holds, in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from fettle.api import open_run
from fettle.runs.samples import load_samples
from page.conftest import RICH
from page.page_actions import at, panel, records, shows, text

Open = Callable[..., Any]


def test_the_verdict_stands_on_top_with_its_reasons(visit: Open, runs: Path) -> None:
    verdict = open_run(runs / RICH).verdict().to_json()
    page = visit(at(RICH), keep=True)
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


def test_loss_shows_the_last_values_of_the_log(visit: Open, runs: Path) -> None:
    last, evaluated = records(runs / RICH, "train")[-1], records(runs / RICH, "fixed_eval")[-1]
    page = visit(at(RICH, **{"from": 1900, "to": 2000}))
    shows(page, "#loss .legend", f"{last['loss']:.3f}")
    shows(page, "#loss .legend", f"{last['streaming_ce']:.3f}")
    shows(page, "#loss .legend", f"{evaluated['cross_entropy']:.3f}")


def test_fixed_eval_shows_numbers_with_their_intervals(visit: Open, runs: Path) -> None:
    last = records(runs / RICH, "fixed_eval")[-1]
    page = visit(at(RICH), keep=True)
    panel(page, "evaluation")
    low, high = (f"{100 * last[f'exact_match_{end}']:.1f}" for end in ("low", "high"))
    shows(page, "#evaluation", f"{100 * last['exact_match']:.1f} % ({low} % to {high} %)")
    low, high = (f"{last[f'cross_entropy_{end}']:.3f}" for end in ("low", "high"))
    shows(page, "#evaluation", f"{last['cross_entropy']:.3f} ({low} to {high})")
    shows(page, "#evaluation", f"{last['expected_calibration_error']:.3f}")


def test_a_cell_of_the_heatmap_leads_to_its_samples(visit: Open, runs: Path) -> None:
    samples = load_samples(runs / RICH / "fixed_eval", 2000)
    assert samples is not None
    inside = (samples.pattern == "reasoning") & (samples.tokens >= 100) & (samples.tokens < 300)
    exact = 100 * samples.exact_match[inside].mean()
    page = visit(at(RICH))
    panel(page, "patterns")
    cell = page.get_by_role("button", name=re.compile("^reasoning, 100-300 tokens"))
    assert re.findall(r"\d+", cell.inner_text()) == [f"{exact:.0f}", str(inside.sum())]
    cell.click()
    shows(page, "#samples", f"of {inside.sum()}")
    assert set(page.locator("#samples tbody td:nth-child(2)").all_inner_texts()) == {"reasoning"}


def test_layers_show_their_movement(visit: Open, runs: Path) -> None:
    rows = records(runs / RICH, "layers")[-1]["rows"]
    top = max(rows, key=lambda row: row["relative"])
    page = visit(at(RICH), keep=True)
    panel(page, "layers")
    shows(page, "#layers tbody tr:first-child", f"layer {top['layer']}")
    shows(page, "#layers tbody tr:first-child", f"{100 * top['relative']:.3f} %")
    expect(page.locator("#layers tbody tr")).to_have_count(5)
    shows(page, "#layers", "Did not move: layer 27")
    page.locator("#layers").get_by_role("button", name="all").click()
    expect(page.locator("#layers tbody tr")).to_have_count(len(rows))
    page.locator("#layers").get_by_role("button", name="layer × group").click()
    qkv = rows[3]["groups"]["qkv"]["relative"]
    assert f"{100 * qkv:.3f}" in text(page, "#layers tbody tr:nth-child(4)")


def test_curves_of_training_show_the_last_value_of_the_window(visit: Open, runs: Path) -> None:
    last = records(runs / RICH, "train")[1899]
    page = visit(at(RICH, **{"from": 1800, "to": 1900}))
    panel(page, "optimiser")
    shows(page, "#optimiser .legend", f"{last['learning_rate']:.2e}".replace("e-0", "e-"))
    shows(page, "#optimiser .legend", f"{last['grad_norm']:.3f}")
    panel(page, "speed")
    shows(page, "#speed .legend", f"{last['tokens_per_sec'] / 1000:.3f}".replace(".", " "))
    shows(page, "#speed .legend", f"{last['step_time']:.2f} s")


def test_the_machine_shows_memory_and_load(visit: Open, runs: Path) -> None:
    last = records(runs / RICH, "system")[-1]
    page = visit(at(RICH), keep=True)
    panel(page, "machine")
    shows(page, "#machine", f"{last['gpu_memory_used'] / 1e9:.1f} GB")
    shows(page, "#machine", f"{100 * last['gpu_utilization']:.0f} %")
    shows(page, "#machine", f"{last['gpu_temperature']:.0f} °C")
    shows(page, "#machine", f"{100 * last['host_cpu']:.0f} %")


def test_entropy_stands_beside_cross_entropy(visit: Open, runs: Path) -> None:
    last = records(runs / RICH, "fixed_eval")[-1]
    page = visit(at(RICH), keep=True)
    panel(page, "entropy")
    shows(page, "#entropy .legend", f"{last['entropy']:.3f}")


def test_checkpoints_show_score_and_components(visit: Open, runs: Path) -> None:
    checkpoint = next(c for c in open_run(runs / RICH).checkpoints() if c.step == 1200)
    page = visit(at(RICH), keep=True)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    panel(page, "checkpoints")
    row = page.locator("#checkpoints tbody tr").filter(has_text=re.compile(r"^1\s200"))
    shown = re.sub(r"\s+", " ", row.inner_text()).replace("−", "-")
    assert checkpoint.score is not None
    for number in (checkpoint.score, *checkpoint.components.values(), checkpoint.cross_entropy):
        assert f"{number:.3f}" in shown
    assert "use this" in shown
    assert "50." in shown  # kB
    row.get_by_role("button").click()
    shows(page, "#toast", "copied")
    assert page.evaluate("navigator.clipboard.readText()") == str(checkpoint.path)


def test_alerts_say_what_to_do(visit: Open) -> None:
    page = visit(at(RICH), keep=True)
    panel(page, "alerts")
    shows(page, "#alerts .alert", "Halve the learning rate, or use a checkpoint near step 900.")
    expect(page.locator("#alerts > .panel-body > .alerts > .alert")).to_have_count(2)
    shows(page, "#alerts summary", "1 resolved")
    # What the sentence says already is not said again.
    shows(
        page, "#alerts .alert .footnote", "expected calibration error 0.110 · best step 900 · threshold 1.500"
    )


def test_predictions_differ_word_by_word_from_the_truth(visit: Open, runs: Path) -> None:
    rows = [
        json.loads(line)
        for line in (runs / RICH / "predictions" / "predictions.jsonl").read_text().splitlines()
    ]
    wrong = next(row for row in rows if not row["exact_match"] and row["pattern"] == "factual")
    page = visit(at(RICH, prompt=wrong["prompt_id"], said=wrong["step"]))
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


def test_samples_are_filtered_by_what_became_of_them(visit: Open, runs: Path) -> None:
    forgotten = open_run(runs / RICH).verdict().to_json()["evidence"]["samples"]["forgotten"]
    page = visit(at(RICH, history="forgotten"))
    panel(page, "samples")
    shows(page, "#samples", f"of {forgotten}")
    assert set(page.locator("#samples tbody td:nth-child(6)").all_inner_texts()) == {"forgotten"}


def test_the_log_is_filtered_and_searched(visit: Open) -> None:
    page = visit(at(RICH))
    panel(page, "log")
    shows(page, "#log", "step 2000 of 2000")
    page.locator("#log select").select_option("error")
    shows(page, "#log .chip", "×2")
    expect(page.locator("#log li")).to_have_count(1)
    page.locator("#log select").select_option("")
    page.get_by_placeholder("Search the log").fill("longest 2311")
    shows(page, "#log .footnote", "20 of 20 lines that fit")


def test_configuration_and_provenance_are_there(visit: Open) -> None:
    page = visit(at(RICH), keep=True)
    panel(page, "configuration")
    shows(page, "#configuration", "learning_rate: 0.0002")
    shows(page, "#configuration", "xxh3:9b1c2f")
