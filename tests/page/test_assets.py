"""The page as it is built: all of it, light, and of the modules as they are."""

from __future__ import annotations

import gzip
import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from fettle.server.assets import STATIC, held_script, page_assets

ROOT = Path(__file__).parents[2]
BUDGET = 60_000
"""Bytes of all scripts and styles, packed."""


def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sources() -> list[Path]:
    return [path for path in STATIC.rglob("*.js") if not {"vendor", "built"} & set(path.parts)]


def test_scripts_and_styles_are_light() -> None:
    packed = {name: len(gzip.compress(asset.body, 9)) for name, asset in page_assets().items() if name != "/"}
    assert sum(packed.values()) <= BUDGET, packed


def test_the_page_is_built_of_the_modules_as_they_are() -> None:
    assert (STATIC / "built/stamp.txt").read_text() == build().stamp_of(STATIC), "run `make page`"


def test_every_module_and_style_is_part_of_the_page() -> None:
    """By a text of each that no minifier changes: a class, a label, an address."""
    script = page_assets()["/static/app.js"].body.decode() + held_script().decode()
    for path in sources():
        texts = re.findall(
            r'"([A-Za-z][^"\\\n]{3,})"',
            re.sub(r"^(import|//).*$|/\*.*?\*/", "", path.read_text(), flags=re.M),
        )
        assert not texts or any(text in script for text in texts), path.name
    style = page_assets()["/static/app.css"].body.decode()
    for name in ("base.css", "layout.css", "panels.css"):
        rule = next(line for line in (STATIC / name).read_text().splitlines() if line.startswith("."))
        assert rule.split("{")[0].split(",")[0].strip() in style


def test_building_again_does_nothing_until_a_module_changes(tmp_path: Path) -> None:
    hatch = build()
    static = tmp_path / hatch.STATIC
    shutil.copytree(STATIC, static)
    # The program that bundles is there already, as after any installation from source.
    shutil.copytree(ROOT / "build", tmp_path / "build")
    app = static / "built/app.js"
    app.write_text("as it was")
    hatch.build_page(tmp_path)
    assert app.read_text() == "as it was"
    main = static / "main.js"
    main.write_text(main.read_text() + 'console.log("changed");\n')
    hatch.build_page(tmp_path)
    assert 'console.log("changed")' in app.read_text()
    main.write_text("import { gone } from './nowhere.js';\ngone();\n")
    with pytest.raises(RuntimeError, match=r"cannot be bundled: .*nowhere\.js"):
        hatch.build_page(tmp_path)


def test_the_tag_changes_with_the_content() -> None:
    before, after = (page_assets()["/"], page_assets()["/static/app.js"])
    assert before.etag != after.etag
    assert before.etag == page_assets()["/"].etag


def test_no_markup_is_ever_made_of_text() -> None:
    for path in sources():
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser",
            path.read_text(),
        ), path.name
    assert "<style" not in (STATIC / "index.html").read_text()
    assert not re.search(r"\son\w+=|style=", (STATIC / "index.html").read_text())
