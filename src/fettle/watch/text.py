"""How values read in a terminal: words for what is missing, signs beside colours, no markup, no escapes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import isfinite
from typing import Any

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from fettle.runs.log_lines import printable
from fettle.runs.numbers import number

MISSING = "not measured"
# The sixteen colours of every terminal, as the terminal shows them; none of them says what no word says.
PLAIN, BOLD, FAINT = Style(), Style(bold=True), Style(dim=True)
GOOD, BAD, NOTICE, CALM = (Style(color=name) for name in ("green", "red", "yellow", "cyan"))
BLOCKS = "▁▂▃▄▅▆▇"
"""Without the full one, so that two lines of them never touch."""
SECONDS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def clean(value: Any) -> str:
    """Text of a run on one line: no escapes, no control characters, nothing that cannot be encoded."""
    text = str(value).encode("utf-8", "replace").decode("utf-8")
    return " ".join(printable(text.replace("\t", " ").replace("\n", " ")).split())


def line(*parts: str | tuple[str, Style]) -> Text:
    """One line of text and (text, style), joined as they stand."""
    text = Text(no_wrap=True)
    for part in parts:
        if isinstance(part, str):
            text.append(part)
        else:
            text.append(part[0], part[1])
    return text


def fit(text: Text, width: int) -> Text:
    """At most `width` cells; what is cut off ends in an ellipsis."""
    text = text.copy()
    text.truncate(max(0, width), overflow="ellipsis")
    return text


def apart(left: Text, right: Text, width: int) -> Text:
    """Two ends of one line; the left one gives way."""
    left = fit(left, width - right.cell_len - 1)
    return left + Text(" " * max(1, width - left.cell_len - right.cell_len)) + right


def wrapped(text: str, width: int, most: int | None = None) -> list[str]:
    """Words in lines of at most `width` cells; beyond `most` lines an ellipsis."""
    lines = textwrap.wrap(text, max(1, width), max_lines=most, placeholder=" …") or [""]
    return (
        lines if all(cell_len(part) <= width for part in lines) else textwrap.wrap(text, max(1, width // 2))
    )


def padded(text: str, width: int) -> str:
    """Exactly `width` cells, cut or filled."""
    cut = fit(Text(text), width).plain
    return cut + " " * (width - cell_len(cut))


def percent(share: float | None, digits: int = 1) -> str:
    """`81.5 %`."""
    return MISSING if share is None else f"{100 * share:.{digits}f} %"


def nats(value: float | None) -> str:
    """`0.312`; a very large or small one in powers of ten."""
    if value is None:
        return MISSING
    odd = abs(value) >= 1e4 or (value != 0 and abs(value) < 5e-4)
    return f"{value:.2e}" if odd else f"{value:.3f}"


def change(value: float) -> str:
    """With its sign: `+0.031`, `−0.054`."""
    return f"{value:+.3f}".replace("-", "−")


def whole(value: float | None) -> str:
    """`14,000`."""
    return MISSING if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """The two largest units: `2 h 05 min`, `12 min`, `40 s`."""
    if seconds is None or not isfinite(seconds):
        return MISSING
    left = max(0, round(seconds))
    for (name, size), (smaller, part) in pairwise(SECONDS):
        if left >= size:
            rest = left % size // part
            return f"{left // size} {name}" + (f" {rest:02d} {smaller}" if size > 60 and rest else "")
    return f"{left} s"


def gibibytes(used: Any, total: Any) -> str:
    """`61.6 of 80.0 GiB`."""
    of = [None if (n := number(value)) is None else f"{n / 2**30:.1f}" for value in (used, total)]
    if of[0] is None:
        return MISSING
    return f"{of[0]} GiB" if of[1] is None else f"{of[0]} of {of[1]} GiB"


def margin(low: float | None, high: float | None, scale: float = 1.0, digits: int = 1) -> str:
    """` ± 1.7`, half of an interval; nothing where there is none."""
    return "" if low is None or high is None else f" ± {scale * (high - low) / 2:.{digits}f}"


def bar(share: float, width: int, style: Style) -> Text:
    """`━━━━━━────`; anything above nothing shows."""
    full = round(min(1.0, max(0.0, share)) * width)
    full = max(full, 1 if share > 0 and width else 0)
    return line(("━" * full, style + BOLD), ("─" * (width - full), FAINT))


def sparkline(values: Sequence[float | None], width: int) -> str:
    """The last `width` values from lowest to highest; `·` where one was not measured."""
    shown = list(values)[-width:] if width > 0 else []
    known = [value for value in shown if value is not None]
    if len(known) < 2:
        return ""
    low, span = min(known), max(known) - min(known)
    top = len(BLOCKS) - 1
    return "".join("·" if v is None else BLOCKS[round((v - low) / span * top) if span else 0] for v in shown)


def joined(parts: Iterable[str]) -> str:
    """Facts of one line, those that are there."""
    return " · ".join(part for part in parts if part)
