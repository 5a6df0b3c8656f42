"""Curves as bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fettle.metrics.buckets import FIELDS, min_max_buckets
from fettle.runs import RunReader


def curve(
    run: RunReader,
    type: str,
    x: str,
    y: str,
    width: int,
    start: float | None,
    stop: float | None,
    fields: list[str],
) -> tuple[bytes, bool, int]:
    """Buckets as little-endian float64 rows of `fields`, whether each is one row of the log, and how many.

    A column that the run lacks gives none.
    """
    found, codes = run.columns(type), run.nonfinite(type, y)
    nothing: NDArray[np.float64] = np.empty(0)
    known = x in found and (y in found or codes is not None)
    x_N = found[x] if known else nothing
    y_N = found.get(y, np.full(x_N.size, np.nan)) if known else nothing
    buckets = min_max_buckets(x_N, y_N, width, codes if known else None, start, stop)
    chosen = buckets.values[:, [FIELDS.index(name) for name in fields]]
    return np.ascontiguousarray(chosen, dtype="<f8").tobytes(), buckets.raw, len(chosen)
