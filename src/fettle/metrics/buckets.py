"""A curve in as many buckets as a picture has columns, with every extreme kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FIELDS = (
    "x_first", "x_last", "min", "max", "mean", "count", "nonfinite_count", "nan_count", "inf_count",
    "minus_inf_count",
)  # fmt: skip
NAN, INF, MINUS_INF = 1.0, 2.0, 3.0
"""What a row that holds no finite number was logged as."""


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """The buckets of a curve, in the order of the log."""

    values: Floats
    """[buckets, len(FIELDS)], fields as in `FIELDS`; min, max and mean are NaN without a finite number."""
    raw: bool
    """Whether every bucket is one row."""


def min_max_buckets(
    x_N: Floats,
    y_N: Floats,
    width: int,
    nonfinite_N: Floats | None = None,
    start: float | None = None,
    stop: float | None = None,
    most_rows: int | None = None,
) -> Buckets:
    """Rows with start <= x <= stop in at most `width` buckets; each row itself where there are no more.

    With `most_rows`, each row itself where there are no more than that.
    Where x grows, buckets are equally wide in x, so that each is one column of a picture; else they hold
    equally many rows. Minimum and maximum are exact. `nonfinite_N` says of rows without a finite y whether
    they were logged as NaN (1), inf (2) or -inf (3); rows that it does not name, and rows without a finite
    x, were not measured and count nowhere.
    """
    x_N, y_N, codes_N = _window(x_N, y_N, nonfinite_N, start, stop)
    if x_N.size == 0 or width < 1:
        return Buckets(np.empty((0, len(FIELDS))), raw=True)
    if x_N.size <= (most_rows or width):
        first_B = np.arange(x_N.size)
    elif x_N[0] < x_N[-1] and bool((x_N[1:] >= x_N[:-1]).all()):
        edges: Floats = np.linspace(float(x_N[0]), float(x_N[-1]), width + 1)[:-1]
        first_B = np.unique(np.searchsorted(x_N, edges))
    else:
        first_B = np.linspace(0, x_N.size, width + 1).astype(np.int64)[:-1]
    return Buckets(_reduced(x_N, y_N, codes_N, first_B), raw=first_B.size == x_N.size)


def _window(
    x_N: Floats, y_N: Floats, nonfinite_N: Floats | None, start: float | None, stop: float | None
) -> tuple[Floats, Floats, Floats | None]:
    """Rows that were measured and lie in the window. Codes are None where every y is finite."""
    low, high = -np.inf if start is None else start, np.inf if stop is None else stop
    if start is not None or stop is not None:
        rows = np.flatnonzero((x_N >= low) & (x_N <= high))
        inside = slice(int(rows[0]), int(rows[-1]) + 1) if rows.size else slice(0, 0)
        x_N, y_N = x_N[inside], y_N[inside]
        nonfinite_N = None if nonfinite_N is None else nonfinite_N[inside]
    # A sum is finite only where every number is: the usual curve is told by two of them.
    with np.errstate(over="ignore", invalid="ignore"):
        finite = bool(np.isfinite(x_N.sum()) and np.isfinite(y_N.sum()))
    if finite and _all_inside(x_N, low, high):
        return x_N, y_N, None
    finite_N = np.isfinite(y_N)
    known_N = finite_N if nonfinite_N is None else finite_N | (nonfinite_N > 0)
    keep_N = known_N & np.isfinite(x_N) & (x_N >= low) & (x_N <= high)
    codes_N = None if nonfinite_N is None or bool((finite_N | ~keep_N).all()) else nonfinite_N
    if not keep_N.all():
        x_N, y_N = x_N[keep_N], y_N[keep_N]
        codes_N = None if codes_N is None else codes_N[keep_N]
    return x_N, y_N, codes_N


def _all_inside(x_N: Floats, low: float, high: float) -> bool:
    return (
        x_N.size == 0 or (low == -np.inf and high == np.inf) or bool(x_N.min() >= low and x_N.max() <= high)
    )


def _reduced(x_N: Floats, y_N: Floats, codes_N: Floats | None, first_B: NDArray[np.int64]) -> Floats:
    rows_B = np.diff(first_B, append=x_N.size)
    table = np.zeros((first_B.size, len(FIELDS)))
    table[:, 0], table[:, 1] = x_N[first_B], x_N[first_B + rows_B - 1]
    with np.errstate(over="ignore", invalid="ignore"):
        table[:, 2], table[:, 3] = np.minimum.reduceat(y_N, first_B), np.maximum.reduceat(y_N, first_B)
        table[:, 4] = np.add.reduceat(y_N, first_B) / rows_B
    table[:, 5] = rows_B
    if codes_N is not None:
        for bucket in np.flatnonzero(~(np.isfinite(table[:, 2]) & np.isfinite(table[:, 3]))).tolist():
            rows = slice(int(first_B[bucket]), int(first_B[bucket] + rows_B[bucket]))
            table[bucket, 2:] = _with_nonfinite(y_N[rows], codes_N[rows])
    # A sum can overflow where no number does, and rounding can leave the extremes.
    table[:, 4] = np.clip(table[:, 4], table[:, 2], table[:, 3])
    return table


def _with_nonfinite(y_R: Floats, codes_R: Floats) -> list[float]:
    """Fields of one bucket from `min` on, some of whose rows hold no finite number."""
    finite_R = np.isfinite(y_R)
    known = y_R[finite_R]
    counts = [float(np.count_nonzero((codes_R == code) & ~finite_R)) for code in (NAN, INF, MINUS_INF)]
    with np.errstate(over="ignore"):
        extremes = (
            [float(known.min()), float(known.max()), float(known.mean())] if known.size else [np.nan] * 3
        )
    return [*extremes, float(known.size), float(y_R.size - known.size), *counts]
