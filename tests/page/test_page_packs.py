"""A pack of lenses on the page, without a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from page.conftest import running
from page.page_actions import shows
from server.test_packs import HOSTILE, record, write_pack_index

CONCEPTS = 30


def test_a_pack_is_found_sorted_chosen_and_opened(open_page: Callable[..., Any], tmp_path: Path) -> None:
    lenses = [
        record(
            f"concept {k}", grade="AB"[k % 2], branches=[f"branch {k % 3}"], selectivity=k / 100,
            test={"f1": {"value": k / 100}, "auroc": {"value": 1 - k / 100}},
        )
        for k in range(CONCEPTS)
    ]  # fmt: skip
    write_pack_index(tmp_path / "runs/my lenses", [*lenses, record(HOSTILE, grade="C", test=None)])
    with running(tmp_path / "runs") as base:
        page = open_page("", base=base)
        page.get_by_role("link", name="my lenses").click()
        shows(page, "main h1", "my lenses")
        shows(page, "main .run-line", "layer 4")
        shows(page, "#lenses", "Grades: A 15, B 15, C 1, U 0.")
        rows = page.locator("#lenses tbody tr")
        expect(rows).to_have_count(12)
        expect(rows.first).to_contain_text("concept 0")  # The best AUROC.
        page.get_by_role("button", name="F1").click()
        expect(rows.first).to_contain_text("concept 29")
        page.get_by_label("Grade").select_option("A")
        page.get_by_label("Branch").select_option("branch 1")
        expect(rows).to_have_count(5)
        page.get_by_role("button", name="concept 28", exact=True).press("Enter")
        shows(page, "#lenses .lens-texts", "graduated: F1 0.980 on 10 texts")
        shows(page, "#lenses .lens-texts", "bag of words 0.700")
        shows(page, "#lenses .lens-texts", "A text of concept 28.")
        page.get_by_label("Grade").select_option("C")
        page.get_by_label("Branch").select_option("")
        shows(page, "#lenses tbody th", HOSTILE)
        page.reload()
        expect(rows).to_have_count(12)
        assert page.locator("img").count() == 0
        page.goto("about:blank")


@pytest.mark.parametrize("id", ["gone", "torn"])
def test_a_pack_that_cannot_be_shown_says_why(open_page: Callable[..., Any], tmp_path: Path, id: str) -> None:
    (tmp_path / "runs/torn").mkdir(parents=True)
    (tmp_path / "runs/torn/lenses.json").write_text("{")
    with running(tmp_path / "runs") as base:
        page = open_page(f"#pack={id}", base=base, quiet=False)
        shows(page, "main .problem", "no such pack" if id == "gone" else "is damaged or of another version")
