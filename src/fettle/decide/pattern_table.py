"""The table of one eval by kind of prompt and length of answer, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fettle.decide.next_data import train_counts, train_share
from fettle.decide.patterns import SMALLEST_PATTERN, PatternResult, cell_results
from fettle.metrics.patterns import PatternCell, PatternMatrix
from fettle.runs.records import OTHER

WEAKEST_CELLS = 5
"""Of the cells with enough evidence, those that are named."""


def pattern_table(
    matrix: PatternMatrix | None,
    metadata: Mapping[str, Any] | None,
    stands_out: PatternResult | None = None,
) -> dict[str, Any] | None:
    """Every cell and total with its interval and its share of the training data, where it was counted."""
    if matrix is None:
        return None
    counts = train_counts(metadata)

    def with_share(cell: PatternCell) -> dict[str, Any]:
        return {**_plain(cell), "train_share": train_share(counts, cell.pattern or OTHER, cell.length)}

    return {
        "lengths": matrix.lengths,
        "cells": [with_share(cell) for cell in matrix.cells],
        "patterns": [with_share(cell) for cell in matrix.patterns],
        "columns": [_plain(cell) for cell in matrix.columns],
        "seen": matrix.seen,
        "balance": matrix.balance,
        "weakest": [row.to_json() for row in cell_results(matrix) if row.enough][:WEAKEST_CELLS],
        "stands_out": stands_out.to_json() if stands_out else None,
    }


def _plain(cell: PatternCell) -> dict[str, Any]:
    low, high = cell.interval
    enough = cell.seen >= SMALLEST_PATTERN
    return {**cell.to_json(), "exact_match_low": low, "exact_match_high": high, "enough": enough}
