"""The panel of concepts: the numbers of the file, sorted, filtered, and their texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect

from page.conftest import BARE, RICH
from page.page_actions import at, panel, shows, text
from page.rich_drift import MOVERS, NAMES, drift_content

Open = Callable[..., Any]


def names(page: Any) -> list[str]:
    return page.locator("#concepts tbody th").all_inner_texts()


def test_movers_lead_and_every_checkpoint_has_its_shift(visit: Open) -> None:
    page = visit(at(RICH))
    panel(page, "concepts")
    shows(page, "#concepts", "3 of 30 concepts moved")
    assert names(page)[:3] == list(MOVERS)
    first = drift_content()["lenses"][0]
    row = text(page, "#concepts tbody tr").split(" ")
    assert row == [
        "refusal", "A", f"{first['f1']:.3f}", f"{first['auroc']:.3f}", "▲", "+2.400", "+16.000",
        "+0.6", "+1.2", "+1.8", "+2.4",
    ]  # fmt: skip
    assert "judged beside 2 control runs" in text(page, "#concepts .footnote")
    expect(page.locator("#concepts tbody tr")).to_have_count(12)
    page.locator("#concepts").get_by_role("button", name="More of 30").click()
    expect(page.locator("#concepts tbody tr")).to_have_count(30)


def test_concepts_are_sorted_and_filtered(visit: Open) -> None:
    lenses = drift_content()["lenses"]
    page = visit(at(RICH))
    section = panel(page, "concepts")
    shows(page, "#concepts", "3 of 30")
    section.get_by_role("button", name="F1").click()
    best = sorted(lenses, key=lambda lens: -lens["f1"])[0]["concept"]
    assert names(page)[0] == best
    section.get_by_role("button", name="F1 ↓").click()
    assert page.locator("#concepts th[aria-sort=ascending]").inner_text() == "F1 ↑"
    assert names(page)[0] == sorted(lenses, key=lambda lens: lens["f1"])[0]["concept"]
    section.get_by_label("Grade").select_option("B")
    expected = [lens["concept"] for lens in lenses if lens["grade"] == "B"]
    assert sorted(names(page)) == sorted(expected)
    section.get_by_label("Branch").select_option("reasoning")
    assert names(page) == []
    section.get_by_label("Branch").select_option("speech")
    section.get_by_role("button", name="Concept", exact=True).click()
    assert names(page) == sorted(expected, key=lambda name: (name.split()[0], name))
    assert set(expected) < set(NAMES)


def test_a_concept_leads_to_its_texts(visit: Open) -> None:
    page = visit(at(RICH))
    section = panel(page, "concepts")
    section.get_by_role("button", name="politeness").click()
    shows(page, "#concepts td.lens-texts", "A plain text on politeness, number 2.")
    shows(page, "#concepts td.lens-texts", "A test text of politeness.")
    shows(
        page,
        "#concepts td.lens-texts",
        "AUROC 0.790, one trained anew with 0.940; cosine of their directions 0.710",
    )
    section.get_by_role("button", name="politeness").click()
    expect(page.locator("#concepts td.lens-texts")).to_have_count(0)


def test_a_run_that_no_lens_looked_at_says_how(visit: Open) -> None:
    page = visit(at(BARE))
    panel(page, "concepts")
    shows(page, "#concepts", "fettle lens drift RUN --lenses PACK")
