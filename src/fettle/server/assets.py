"""The page as three files: its HTML, one script and one style sheet, joined from the modules in `static`.

A browser that loads forty modules one after another waits for each, and each is packed alone: joined they
are a third smaller. The modules keep to a few forms, so that joining needs no parser:

- `import { a, b } from "./module.js";` and nothing else is imported;
- `export` stands before `function`, `async function`, `class` or `const`;
- a comment has its line to itself, or is a type between `/**` and `*/`; no text spans lines.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from pathlib import Path

import xxhash

STATIC = Path(__file__).parent / "static"
LIBRARY = "vendor/uPlot.iife.min.js"
STYLES = ("vendor/uPlot.min.css", "base.css", "layout.css", "panels.css")
ENTRY = "main.js"
ADDRESSES = ("/", "/static/app.js", "/static/app.css", "/static/icon.svg")
HELD = "report/held.js"

IMPORT = re.compile(r'^import \{([^}]*)\} from "([^"]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?function\*? (\w+)|class (\w+)|const (\w+))", re.MULTILINE)
BLOCK_COMMENT = re.compile(r"/\*.*?\*/ ?", re.DOTALL)
LINE_COMMENT = re.compile(r"^\s*//.*\n", re.MULTILINE)
INDENT = re.compile(r"^[ \t]+|^\n", re.MULTILINE)
# A statement never goes on where one of these ends a line: the line end means nothing.
LOOSE_END = re.compile(r"(?<=[;,{(\[])\n")
# Nor does a space beside one of these, outside of texts. A line with another slash, a single quote or a
# text within a text may hold what looks like them, and stays as it is.
TEXT = re.compile(r'("(?:[^"\\\n]|\\.)*"|`[^`\n]*`)')
LOOSE_SPACE = re.compile(r" ?(=>|===|!==|&&|\|\||\?\?|[=,{}():?;\[\]]) ?")
LOOSE_STYLE = re.compile(r"(?<=[;,:{])\s+|\s+(?=\{)|;?\s*(?=\})|(?<=\})\n")


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent."""

    body: bytes
    media_type: str

    @property
    def etag(self) -> str:
        """Changes with the content."""
        return f'"{xxhash.xxh3_64_hexdigest(self.body)}"'


def page_assets(static: Path = STATIC) -> dict[str, Asset]:
    """What the page consists of, by address. Raises OSError where it was not built (hatch_build.py)."""
    script = (static / LIBRARY).read_text(encoding="utf-8").rstrip() + "\n" + joined_script(static)
    style = "".join((static / name).read_text(encoding="utf-8").rstrip() + "\n" for name in STYLES)
    assets = (
        Asset((static / "index.html").read_bytes(), "text/html; charset=utf-8"),
        Asset(script.encode(), "text/javascript; charset=utf-8"),
        Asset(LOOSE_STYLE.sub("", _squeezed(style)).encode(), "text/css; charset=utf-8"),
        Asset((static / "icon.svg").read_bytes(), "image/svg+xml"),
    )
    return dict(zip(ADDRESSES, assets, strict=True))


def held_script(static: Path = STATIC) -> bytes:
    """What stands before the page's script where the page holds its answers itself, as a report does."""
    return _squeezed((static / HELD).read_text(encoding="utf-8")).encode()


def joined_script(static: Path) -> str:
    """All modules that the page reaches, those imported first.

    Each is a function of its own that gives its exports to the modules after it, under their own names.
    """
    order: list[str] = []
    _visit(static, ENTRY, order, ())
    exporters: dict[str, str] = {}
    return "(() => {\n" + "".join(_module(static, name, exporters) for name in order) + "})();\n"


def _visit(static: Path, name: str, order: list[str], above: tuple[str, ...]) -> None:
    if name in above:
        raise ValueError(f"modules of the page import each other in a circle: {' > '.join((*above, name))}")
    if name in order:
        return
    for _, target in IMPORT.findall((static / name).read_text(encoding="utf-8")):
        _visit(static, _beside(name, target), order, (*above, name))
    order.append(name)


def _module(static: Path, name: str, exporters: dict[str, str]) -> str:
    text = (static / name).read_text(encoding="utf-8")
    exported = [found[found.lastindex or 0] for found in EXPORT.finditer(text)]
    for export in exported:
        if (other := exporters.setdefault(export, name)) != name:
            raise ValueError(f"{name} and {other} both export {export}: joined, one would hide the other")
    body = EXPORT.sub("", IMPORT.sub("", text))
    if re.search(r"^(?:import|export)\b", body, re.MULTILINE):
        raise ValueError(f"{name}: an import or export of a form that is not joined")
    inner = LOOSE_END.sub("", "\n".join(map(_tightened, _squeezed(body).split("\n"))))
    if not exported:
        return f"(() => {{{inner}}})();\n"
    names = ",".join(exported)
    return f"const {{{names}}} = (() => {{{inner}return {{{names}}};}})();\n"


def _tightened(line: str) -> str:
    """Without spaces that mean nothing."""
    if line.count("`") > 2 or re.search("[/']", TEXT.sub("", line)):
        return line
    parts = TEXT.split(line)
    return "".join(part if i % 2 else LOOSE_SPACE.sub(r"\1", part) for i, part in enumerate(parts))


def _beside(name: str, target: str) -> str:
    """The module that one names by its place beside it."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))


def _squeezed(text: str) -> str:
    """Without comments, indentation and empty lines."""
    return INDENT.sub("", LINE_COMMENT.sub("", BLOCK_COMMENT.sub("", text)))
