"""Exact match by kind of prompt, the weakest first."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from fettle.decide.patterns import SMALLEST_PATTERN
from fettle.watch.facts import Facts
from fettle.watch.panels import Panel
from fettle.watch.text import (
    BOLD,
    CALM,
    FAINT,
    MISSING,
    NOTICE,
    PLAIN,
    bar,
    clean,
    fit,
    line,
    padded,
    percent,
    whole,
)

LONGEST_NAME = 14
CELL = 13
ROOMY = 50


def _title(facts: Facts) -> str:
    judged = facts.evidence.get("judged_eval")
    return f"EM by pattern, step {whole(judged['step'])}" if judged else "EM by pattern"


def _draw(facts: Facts, width: int, height: int) -> list[Text]:
    evidence = facts.evidence
    rows: list[dict[str, Any]] = evidence.get("patterns") or []
    if not rows:
        return [fit(line((MISSING, FAINT)), width)]
    name = min(LONGEST_NAME, max(len(clean(row["pattern"])) for row in rows) + 1)
    # Of one more line than there is room for, the last says how many are left out.
    shown = rows if len(rows) <= height else rows[: max(1, height - 1)]
    lines = [_row(row, name, row["pattern"] == evidence.get("weakest_pattern"), width) for row in shown]
    if len(shown) < len(rows):
        lines.append(line((f"and {len(rows) - len(shown)} more: press E", FAINT)))
    table = length_table(facts, width) if len(shown) == len(rows) else []
    if width >= ROOMY and height > len(lines) + len(table) > len(lines):
        lines += [Text(), *table]
    return [fit(text, width) for text in lines[:height]]


def length_table(facts: Facts, width: int) -> list[Text]:
    """EM by pattern and length of the answer; nothing where no samples are on disk.

    Columns that do not fit, the longest answers, are left out and said to be.
    """
    matrix: dict[str, Any] | None = facts.evidence.get("pattern_matrix")
    if not matrix:
        return []
    cells = {(cell["pattern"], cell["length"]): cell for cell in matrix["cells"]}
    fits = max(1, (width - LONGEST_NAME) // CELL)
    lengths: list[str] = matrix["lengths"][:fits]
    left = len(matrix["lengths"]) - len(lengths)
    more = f"; {left} longer ones do not fit" if left else ""
    head = f"{'tokens':<{LONGEST_NAME}}" + "".join(f"{name:>{CELL}}" for name in lengths)
    lines = [line((head, FAINT))]
    for total in matrix["patterns"]:
        row = line(padded(clean(total["pattern"]), LONGEST_NAME))
        for length in lengths:
            row.append_text(_cell(cells.get((total["pattern"], length))))
        lines.append(row)
    return [
        *lines,
        line((f"samples after the share; in brackets: fewer than {SMALLEST_PATTERN}{more}", FAINT)),
    ]


def _cell(cell: dict[str, Any] | None) -> Text:
    if cell is None or cell["exact_match"] is None:
        return line((f"{'–':>{CELL}}", FAINT))
    text = f"{percent(cell['exact_match'], 0)} {cell['seen']}"
    enough = cell["enough"]
    return line((f"{text if enough else f'({text})':>{CELL}}", PLAIN if enough else FAINT))


def _row(row: dict[str, Any], name: int, weakest: bool, width: int) -> Text:
    share, note = row["exact_match"], " weakest" if weakest else ""
    if share is None:
        return line(padded(clean(row["pattern"]), name), (MISSING, FAINT))
    counted = f" n={row['n']}" if row["enough"] else f" (n={row['n']})"
    room = max(4, min(24, width - name - 13 - len(" weakest")))
    style = NOTICE if weakest else CALM
    told = line((f"{percent(share, 0):>6}", BOLD), (f"{counted:<7}", FAINT), (note, NOTICE + BOLD))
    return line(padded(clean(row["pattern"]), name)) + bar(share, room, style) + told


PATTERNS = Panel("patterns", _title, _draw)
