"""Values of a file as numbers, where they are finite ones."""

from __future__ import annotations

from math import isfinite
from typing import Any

# Beyond it a float64 no longer tells neighbouring integers apart.
LARGEST_EXACT = 2**53


def number(value: Any) -> float | None:
    """A finite number as a float; None of anything else, True and False too."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if isfinite(value) else None
    except OverflowError:  # An integer beyond any float.
        return None


def integer(value: Any) -> int | None:
    """A finite number cut to an integer; None of anything else."""
    finite = number(value)
    return None if finite is None else int(finite)
