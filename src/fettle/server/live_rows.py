"""What a run has gained since a place in its log, as small as it can be said."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from fettle.runs.column_names import NONFINITE

if TYPE_CHECKING:
    from fettle.runs import RunReader

# Their rows come with every step: values in the order of the columns, told once.
AS_VALUES = "train"
MOST_COLUMNS = 200
DIGITS = 9
_NAMES = {code: name for name, code in NONFINITE.items()}


def live_columns(run: RunReader) -> list[str]:
    """Names of the values of a row of training."""
    return list(run.columns(AS_VALUES))[:MOST_COLUMNS]


def count_after(run: RunReader, place: int) -> int:
    """Rows of all types from a place in the log on."""
    return sum(order.size - int(order.searchsorted(place)) for order in map(run.order, run.counts()))


def rows_after(run: RunReader, place: int, columns: list[str]) -> dict[str, list[Any]]:
    """Rows of each type from a place in the log on: of training values of `columns`, else whole records."""
    found: dict[str, list[Any]] = {}
    for type in run.counts():
        order = run.order(type)
        first = int(order.searchsorted(place))
        if first < order.size:
            last = order.size - first
            found[type] = _values(run, first, columns) if type == AS_VALUES else run.records(type, last=last)
    return found


def _values(run: RunReader, first: int, columns: list[str]) -> list[list[Any]]:
    held = run.columns(AS_VALUES)
    lists: list[list[float | int | str | None]] = [
        [_short(value) for value in held[name][first:].tolist()] for name in columns
    ]
    for name, values in zip(columns, lists, strict=True):
        codes = run.nonfinite(AS_VALUES, name)
        if codes is not None:
            for row, code in enumerate(codes[first:].tolist()):
                values[row] = _NAMES.get(code, values[row])
    return [list(row) for row in zip(*lists, strict=True)]


def _short(value: float) -> float | int | None:
    """Nine digits, more than a float32 has; a time in seconds to the millisecond."""
    if not isfinite(value):
        return None
    if value.is_integer() and abs(value) < 2**53:
        return int(value)
    return round(value, 3) if abs(value) >= 10 ** (DIGITS - 3) else float(f"{value:.{DIGITS}g}")
