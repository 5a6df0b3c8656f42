"""Curves as bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fettle.metrics.buckets import FIELDS, min_max_buckets
from fettle.runs import RunReader

Floats = NDArray[np.float64]
PLACES = ("x_first", "x_last")
EXTREMES = ("min", "max")
SELDOM = ("nonfinite_count", "nan_count", "inf_count", "minus_inf_count")


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Buckets of one curve, or its rows."""

    values: Floats
    """[buckets, fields]"""
    fields: list[str]
    raw: bool
    """Whether each bucket is one row of the log."""

    @classmethod
    def nothing(cls, fields: list[str]) -> Curve:
        """No buckets."""
        return cls(np.empty((0, len(fields))), fields, raw=True)

    def packed(self) -> tuple[bytes, dict[str, str]]:
        """Little-endian float64, and the headers that tell how to read it."""
        return np.ascontiguousarray(self.values, dtype="<f8").tobytes(), self._headers(self.fields)

    def compact(self) -> tuple[bytes, dict[str, str]]:
        """As float32 where that holds seven digits, x counted from the least, no counts of nothing.

        A row has no extremes beside its mean.
        """
        spare = EXTREMES if self.raw and "mean" in self.fields else ()
        kept = [
            i
            for i, name in enumerate(self.fields)
            if name not in spare and (name not in SELDOM or self.values[:, i].any())
        ]
        fields = [self.fields[i] for i in kept]
        values = self.values[:, kept]
        places = [i for i, name in enumerate(fields) if name in PLACES]
        origin = float(values[:, places].min()) if places and len(values) else 0.0
        moved = values.copy()
        moved[:, places] -= origin
        with np.errstate(over="ignore", invalid="ignore"):
            small = moved.astype("<f4")
            same = np.isclose(small, moved, rtol=1e-7, atol=0.0, equal_nan=True).all()
        if not same or not np.array_equal(small[:, places].astype(np.float64) + origin, values[:, places]):
            return Curve(values, fields, self.raw).packed()
        told = {**self._headers(fields), "X-Type": "float32", "X-Origin": repr(origin)}
        return small.tobytes(), told

    def _headers(self, fields: list[str]) -> dict[str, str]:
        rows, raw = str(len(self.values)), str(int(self.raw))
        told = {"X-Rows": rows, "X-Fields": ",".join(fields), "X-Raw": raw}
        return {**told, "X-Type": "float64", "X-Origin": "0"}


def curve(
    run: RunReader,
    type: str,
    x: str,
    y: str,
    width: int,
    start: float | None,
    stop: float | None,
    fields: list[str],
    *,
    drawn: bool = False,
) -> Curve:
    """A curve in at most `width` buckets; one of a column that the run lacks has none.

    Where it is `drawn`, a bucket with extremes stands for two of its points.
    """
    found, codes = run.columns(type), run.nonfinite(type, y)
    if x not in found or (y not in found and codes is None):
        return Curve.nothing(fields)
    x_N = found[x]
    # A column whose every value was NaN or infinite holds no number.
    y_N = found[y] if y in found else np.full(x_N.size, np.nan)
    most = -(-width // 2) if drawn and not set(EXTREMES).isdisjoint(fields) else width
    buckets = min_max_buckets(x_N, y_N, most, codes, start, stop, most_rows=width)
    return Curve(buckets.values[:, [FIELDS.index(name) for name in fields]], fields, buckets.raw)
