"""Exact match by kind of prompt and length of the answer, as a table for the terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

Cell = Mapping[str, Any]


def has_table(evidence: Mapping[str, Any]) -> bool:
    """Whether there is more than one kind and more than one length."""
    return len(evidence["patterns"]) > 1 and len(evidence["pattern_matrix"]["columns"]) > 1


def weakest_lines(evidence: Mapping[str, Any]) -> list[str]:
    """What is weaker than the rest beyond doubt: a kind, a length of it, or one cell."""
    cell = evidence["pattern_matrix"]["stands_out"]
    kind = next((r for r in evidence["patterns"] if r["pattern"] == evidence["weakest_pattern"]), None)
    texts = [str(row["text"]) for row in (kind, cell) if row is not None]
    if not texts:
        return ["none is weaker than the rest beyond chance"]
    return [f"weakest: {texts[0]}", *(f"         {text}" for text in texts[1:])]


def pattern_table(evidence: Mapping[str, Any]) -> Table:
    """Kinds, weakest first, against lengths; a cell is `67% 214`: exact match and samples.

    What nobody saw is empty; what is too few to judge stands in parentheses.
    """
    from rich.table import Table

    matrix: Mapping[str, Any] = evidence["pattern_matrix"]
    columns: list[Cell] = matrix["columns"]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("tokens")
    for name in ("all", *(str(column["length"]) for column in columns)):
        table.add_column(_short(name), justify="right")
    cells = {(cell["pattern"], cell["length"]): cell for cell in matrix["cells"]}
    totals = {cell["pattern"]: cell for cell in matrix["patterns"]}
    for pattern in (str(row["pattern"]) for row in evidence["patterns"]):
        row = [totals[pattern], *(cells.get((pattern, column["length"])) for column in columns)]
        table.add_row(pattern, *(_text(cell) for cell in row))
    return table


def _text(cell: Cell | None) -> str:
    if cell is None:
        return ""
    text = f"{100 * cell['exact_match']:.0f}% {cell['seen']}"
    return text if cell["enough"] else f"({text})"


def _short(label: str) -> str:
    """`1000-2000` as `1k-2k`."""
    return re.sub(r"(\d+)000\b", r"\1k", label)
