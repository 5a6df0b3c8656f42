"""Docs that cannot drift from the code."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
assert spec is not None
assert spec.loader is not None
generate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generate)


@pytest.mark.parametrize("page", generate.PAGES)
def test_a_generated_page_is_up_to_date(page: str) -> None:
    written = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert written == generate.PAGES[page](), "run: make docs"


def test_every_key_of_the_configuration_is_explained() -> None:
    rows = [r for r in generate.configuration_reference().splitlines() if r.startswith("| `")]
    assert len(rows) > 30
    assert not [row for row in rows if re.search(r"\|\s*\|\s*$", row) and "see below" not in row]


def test_the_rooms_of_the_readme_and_of_contributing_are_those_of_the_code() -> None:
    folders = {p.name for p in (ROOT / "src" / "fettle").iterdir() if p.is_dir() and p.name[0] not in "_."}
    named = set(re.findall(r"^\| `(\w+)/` \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M))
    assert named == folders


def test_links_and_files_that_the_readme_names_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", readme):
        assert (ROOT / target).exists(), target
