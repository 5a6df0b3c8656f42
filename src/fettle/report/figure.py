"""What all pictures have in common: colours, quiet axes, the star on the best point, safe files."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fettle.errors import RunError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito (2008): told apart with every common colour blindness, and by lightness in print.
TRAIN, VALIDATION, EXACT_MATCH, SPEED = "#0072B2", "#D55E00", "#009E73", "#8C5A84"
BEST, NOT_FINITE, INK, QUIET = "#F0C800", "#B00020", "#222222", "#8A8A8A"


def panels(heights: list[float]) -> tuple[Figure, list[Axes]]:
    """One column of panels that share the step axis, drawn without pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 1.1 + 1.25 * sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    grid: Any = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
    axes: list[Axes] = list(grid[:, 0])
    for axis in axes:
        quiet(axis)
    return figure, axes


def quiet(axis: Axes) -> None:
    """Axes that stay behind what is drawn."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(QUIET)
    axis.tick_params(colors="#555555", labelsize=9)
    axis.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.margins(x=0.015)


def arrange(figure: Figure) -> None:
    """Lay out once for all files: with an engine in place each `savefig` does it again, and draws twice."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)
    for axis in figure.axes:
        # The solver's last bits come as memory lies, and would change the file of equal numbers.
        left, bottom, width, height = (round(float(edge), 6) for edge in axis.get_position().bounds)
        axis.set_position((left, bottom, width, height))


def star(
    axis: Axes,
    steps: NDArray[np.float64],
    values: NDArray[np.float64],
    at: int,
    text: str,
    *,
    above: bool,
    size: float = 15,
) -> None:
    """Mark the best point and name it; the letters have a white rim, so that no line is hidden."""
    from matplotlib.patheffects import withStroke

    axis.plot(
        steps[at], values[at], marker="*", markersize=size, color=BEST, markeredgecolor=INK,
        markeredgewidth=0.8, linestyle="none", zorder=6,
    )  # fmt: skip
    span = float(steps[-1] - steps[0])
    place = 0.5 if span == 0 else float(steps[at] - steps[0]) / span
    side = "left" if place < 0.12 else "right" if place > 0.88 else "center"
    axis.annotate(
        text, (float(steps[at]), float(values[at])), xytext=(0, 10 if above else -10),
        textcoords="offset points", ha=side, va="bottom" if above else "top", fontsize=8.5, color=INK,
        zorder=7, path_effects=[withStroke(linewidth=2.5, foreground="white")],
    )  # fmt: skip


def save_png(figure: Figure, output: Path, dpi: int) -> Path:
    """Written aside and renamed: whoever looks while it is drawn sees the old picture, whole."""
    aside = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        arrange(figure)
        figure.savefig(aside, dpi=dpi, format="png", facecolor="white")
        aside.replace(output)
    except OSError as error:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise RunError(f"{output}: the plot cannot be written ({error.strerror or error})") from error
    return output
