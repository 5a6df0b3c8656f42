"""The page's modules joined into one script."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from fettle.server.assets import STATIC, joined_script, page_assets

BUDGET = 60_000
"""Bytes of all scripts and styles, packed."""


def modules(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.js").write_text(text)
    return folder


def test_scripts_and_styles_are_light() -> None:
    assets = page_assets()
    packed = {name: len(gzip.compress(asset.body, 9)) for name, asset in assets.items() if name != "/"}
    assert sum(packed.values()) <= BUDGET, packed


def test_every_module_and_style_is_part_of_the_page() -> None:
    script = page_assets()["/static/app.js"].body.decode()
    files = [path for path in STATIC.rglob("*.js") if not {"vendor", "report"} & set(path.parts)]
    assert len(re.findall(r"^(?:const \{[^}]+\} = )?\(\(\) => \{.", script, re.MULTILINE)) == len(files)
    styles = {path.name for path in STATIC.glob("*.css")}
    style = page_assets()["/static/app.css"].body.decode()
    for name in styles:
        rule = next(line for line in (STATIC / name).read_text().splitlines() if line.startswith("."))
        assert rule.split("{")[0].strip() + "{" in style


def test_a_module_comes_after_what_it_imports(tmp_path: Path) -> None:
    script = joined_script(
        modules(
            tmp_path,
            main='import { b } from "./b.js";\nimport { c } from "./c.js";\nb(c);\n',
            b='import { c } from "./c.js";\nexport function b(x) {\n  // why\n'
            '  return f(c, "a = b", `${ x } , `);\n}\n',
            c="/** @type {number} */\nexport const c = 1;\n",
        )
    )
    assert script == (
        "(() => {\n"
        "const {c} = (() => {const c=1;return {c};})();\n"
        'const {b} = (() => {function b(x){return f(c,"a = b",`${ x } , `);}\nreturn {b};})();\n'
        "(() => {b(c);})();\n"
        "})();\n"
    )


@pytest.mark.parametrize(
    "line", ["a = b / c;", "x = /a = b/;", "x = 'a = b';", 'x = `${a ? `b = c` : ""}`;', "x = a / b + '';"]
)
def test_a_line_that_may_hold_a_text_of_another_form_stays_as_it_is(tmp_path: Path, line: str) -> None:
    assert line in joined_script(modules(tmp_path, main=f"{line}\n"))


def test_a_circle_of_imports_is_named(tmp_path: Path) -> None:
    modules(
        tmp_path,
        main='import { a } from "./a.js";\n',
        a='import { b } from "./b.js";\nexport const a = 1;\n',
        b='import { a } from "./a.js";\nexport const b = 2;\n',
    )
    with pytest.raises(ValueError, match=re.escape("main.js > a.js > b.js > a.js")):
        joined_script(tmp_path)


def test_two_exports_of_one_name_are_refused(tmp_path: Path) -> None:
    modules(
        tmp_path,
        main='import { a } from "./a.js";\nimport { b } from "./b.js";\n',
        a="export const c = 1;\n",
        b="export const c = 2;\n",
    )
    with pytest.raises(ValueError, match=re.escape("b.js and a.js both export c")):
        joined_script(tmp_path)


@pytest.mark.parametrize("line", ['import x from "./x.js";', "export default 1;", "export { x };"])
def test_a_form_that_cannot_be_joined_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(ValueError, match=r"main\.js: an import or export"):
        joined_script(modules(tmp_path, main=f"{line}\n"))


def test_nothing_is_lost_with_the_comments() -> None:
    """No text of a module looks like a comment, none spans lines: what joining relies on."""
    for path in STATIC.rglob("*.js"):
        if "vendor" in path.parts:
            continue
        for line in path.read_text().splitlines():
            code = re.sub(r"/\*.*?\*/", "", line)
            assert code.count("`") % 2 == 0, f"{path.name}: a text over several lines: {line}"
            assert not re.search(r"""["'`][^"'`]*/\*""", code), f"{path.name}: {line}"


def test_the_tag_changes_with_the_content(tmp_path: Path) -> None:
    before, after = (page_assets()["/"], page_assets()["/static/app.js"])
    assert before.etag != after.etag
    assert before.etag == page_assets()["/"].etag


def test_no_markup_is_ever_made_of_text() -> None:
    for path in STATIC.rglob("*.js"):
        if "vendor" not in path.parts:
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser",
                path.read_text(),
            ), path.name
    assert "<style" not in (STATIC / "index.html").read_text()
    assert not re.search(r"\son\w+=|style=", (STATIC / "index.html").read_text())
