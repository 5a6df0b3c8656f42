"""Exact match by kind of prompt, the weakest first."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from fettle.watch.facts import Facts
from fettle.watch.panels import Panel
from fettle.watch.text import (
    BOLD,
    CALM,
    FAINT,
    MISSING,
    NOTICE,
    bar,
    clean,
    fit,
    line,
    padded,
    percent,
    whole,
)

LONGEST_NAME = 14


def _evidence(facts: Facts) -> dict[str, Any]:
    return (facts.verdict or {}).get("evidence") or {}


def _title(facts: Facts) -> str:
    judged = _evidence(facts).get("judged_eval")
    return f"EM by pattern, step {whole(judged['step'])}" if judged else "EM by pattern"


def _draw(facts: Facts, width: int, height: int) -> list[Text]:
    evidence = _evidence(facts)
    rows: list[dict[str, Any]] = evidence.get("patterns") or []
    if not rows:
        return [fit(line((MISSING, FAINT)), width)]
    name = min(LONGEST_NAME, max(len(clean(row["pattern"])) for row in rows) + 1)
    # Of one more line than there is room for, the last says how many are left out.
    shown = rows if len(rows) <= height else rows[: max(1, height - 1)]
    lines = [_row(row, name, row["pattern"] == evidence.get("weakest_pattern"), width) for row in shown]
    if len(shown) < len(rows):
        lines.append(line((f"and {len(rows) - len(shown)} more: press E", FAINT)))
    return [fit(text, width) for text in lines[:height]]


def _row(row: dict[str, Any], name: int, weakest: bool, width: int) -> Text:
    share, note = row["exact_match"], " weakest" if weakest else ""
    if share is None:
        return line(padded(clean(row["pattern"]), name), (MISSING, FAINT))
    counted = f" n={row['n']}" if row["enough"] else f" (n={row['n']})"
    room = max(4, min(24, width - name - 8 - 9 - len(" weakest")))
    style = NOTICE if weakest else CALM
    return line(
        padded(clean(row["pattern"]), name), (bar(share, room), style), (f"{percent(share, 0):>6}", BOLD),
        (f"{counted:<8}", FAINT), (note, NOTICE + BOLD),
    )  # fmt: skip


PATTERNS = Panel("patterns", _title, _draw)
