"""A curve in braille dots: two by four of them a character, every extreme kept."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray
from rich.style import Style
from rich.text import Text

from fettle.metrics.buckets import FIELDS, Buckets
from fettle.watch.text import BOLD, CALM, FAINT, NOTICE, fit, line, nats, whole

Floats = NDArray[np.float64]
# Bits of the dots of one braille character, [4 rows, 2 columns].
DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
ROOMY = 7
"""Lines from which on the last one says what the signs mean."""
AXIS = 8
"""Cells left of the plot, for its numbers."""
_X, _LAST, _LOW, _HIGH, _MEAN, _ODD = (
    FIELDS.index(name) for name in ("x_first", "x_last", "min", "max", "mean", "nonfinite_count")
)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What is drawn: a faint band, a line over it, and points."""

    band: Buckets
    line: Buckets
    points: list[tuple[float, float]]
    mark: float | None = None
    """The step of the checkpoint to use."""


def draw(picture: Picture, width: int, height: int) -> list[Text]:
    """`height` lines: the plot, its axis and what its signs mean."""
    explained = height >= ROOMY
    rows, columns = height - 1 - explained, width - AXIS
    frame = _frame(picture)
    if frame is None or rows < 2 or columns < 8:
        return []
    left, right, low, high = frame
    band, smooth = np.zeros((2, 4 * rows, 2 * columns), dtype=bool)
    signs: dict[tuple[int, int], str] = {}

    def column(x: float) -> int:
        return round((x - left) / (right - left) * (2 * columns - 1))

    def row(y: float) -> int:
        return round((high - min(max(y, low), high)) / (high - low) * (4 * rows - 1))

    for bucket in picture.band.values.tolist():
        at = column(bucket[_X])
        if bucket[_LOW] == bucket[_LOW]:
            band[row(bucket[_HIGH]) : row(bucket[_LOW]) + 1, at] = True
        if bucket[_HIGH] > high:
            signs[0, at // 2] = "↑"
        if bucket[_ODD]:
            signs[0, at // 2] = "×"
    _line(
        smooth, [(column(b[_X]), row(b[_MEAN])) for b in picture.line.values.tolist() if b[_MEAN] == b[_MEAN]]
    )
    for x, y in picture.points:
        signs[row(y) // 4, column(x) // 2] = "●"
    lines = [_row(at, band, smooth, signs, _label(at, rows, low, high)) for at in range(rows)]
    marked = None if picture.mark is None or not left <= picture.mark <= right else column(picture.mark) // 2
    legend = [fit(_legend(picture, signs), width)] if explained else []
    return [*lines, _axis(left, right, columns, marked), *legend]


def _frame(picture: Picture) -> tuple[float, float, float, float] | None:
    """First and last step, lowest and highest value that are drawn; None without any number.

    One spike must not press a whole run flat: what lies above all but 1 % of the buckets, the moving
    average and the points is marked on the upper edge.
    """
    tables = [b.values for b in (picture.band, picture.line) if b.values.size]
    xs = [v for t in tables for v in (float(t[0, _X]), float(t[-1, _LAST]))] + [x for x, _ in picture.points]
    band, smooth = picture.band.values, picture.line.values
    highest = band[np.isfinite(band[:, _HIGH]), _HIGH]
    usual = [float(np.quantile(highest, 0.99, method="lower"))] if highest.size else []
    drawn = [*band[:, _LOW].tolist(), *usual, *smooth[:, _MEAN].tolist(), *(y for _, y in picture.points)]
    ys = [v for v in drawn if np.isfinite(v)]
    if not ys:
        return None
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)
    return left, max(right, left + 1), low, high if high > low else low + max(1e-9, abs(low))


def _line(dots: NDArray[np.bool_], points: list[tuple[int, int]]) -> None:
    """Points joined: each column reaches half-way to its neighbours."""
    for (x0, y0), (x1, y1) in zip(points, points[1:] or points, strict=False):
        for x in range(x0, x1 + 1):
            share = 0.0 if x1 == x0 else (x - x0) / (x1 - x0)
            dots[round(y0 + share * (y1 - y0)), x] = True
        dots[min(y0, y1) : max(y0, y1) + 1, x1] = True


def _row(
    at: int,
    band: NDArray[np.bool_],
    smooth: NDArray[np.bool_],
    signs: dict[tuple[int, int], str],
    label: str,
) -> Text:
    text = line((label.rjust(AXIS - 2), FAINT), ("┤" if label else "│", FAINT), " ")
    parts = [d[4 * at : 4 * at + 4].reshape(4, -1, 2) for d in (band, smooth)]
    bits = [(part * DOTS[:, None, :]).sum((0, 2)).tolist() for part in parts]
    drawn = [
        _cell(faint, bright, signs.get((at, column)))
        for column, (faint, bright) in enumerate(zip(*bits, strict=True))
    ]
    # Cells of one style together: a thousand styles of one character each take a terminal long to draw.
    for style, cells in groupby(drawn, key=itemgetter(1)):
        text.append("".join(character for character, _ in cells), style)
    return text


def _cell(faint: int, bright: int, sign: str | None) -> tuple[str, Style]:
    if sign is not None:
        return sign, NOTICE if sign == "●" else BOLD
    if bright:
        return chr(0x2800 + bright), CALM
    return chr(0x2800 + faint) if faint else " ", FAINT


def _label(at: int, rows: int, low: float, high: float) -> str:
    """Of the first, the last and, in a tall plot, the middle line."""
    middle = rows // 2 if rows >= 9 else -1
    values = {0: high, middle: high - (high - low) * (4 * middle + 2) / (4 * rows), rows - 1: low}
    return nats(values[at])[: AXIS - 2] if at in values else ""


def _axis(left: float, right: float, columns: int, marked: int | None) -> Text:
    first, last = f"{whole(left)} ", f" {whole(right)}"
    filled = f"{first}{'─' * max(0, columns - len(first) - len(last))}{last}"
    text = line(" " * AXIS, (filled, FAINT))
    if marked is not None and len(first) <= marked < columns - len(last):
        text = line(" " * AXIS, (filled[:marked], FAINT), ("▲", BOLD), (filled[marked + 1 :], FAINT))
    return text


def _legend(picture: Picture, signs: dict[tuple[int, int], str]) -> Text:
    text = line(" ")
    parts = [("⣿", FAINT, "train", bool(picture.band.values.size))]
    parts.append(("⠒⠒", CALM, "streaming", bool(picture.line.values.size)))
    parts.append(("●", NOTICE, "validation", bool(picture.points)))
    parts.append(("×", BOLD, "not finite", "×" in signs.values()))
    parts.append(("↑", BOLD, "beyond", "↑" in signs.values()))
    parts.append(("▲", BOLD, "best", picture.mark is not None))
    for sign, style, name, there in parts:
        if there:
            text.append(sign, style).append(f" {name}  ")
    return text
