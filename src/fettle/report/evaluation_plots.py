"""Pictures of an evaluation: metrics over the steps, each kind of prompt by itself, calibration."""

from __future__ import annotations

import io
import math
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from fettle.decide.regression import CROSS_ENTROPY
from fettle.metrics.intervals import wilson_interval
from fettle.report.figure import (
    BEST,
    EXACT_MATCH,
    INK,
    NOT_FINITE,
    QUIET,
    TRAIN,
    VALIDATION,
    arrange,
    panels,
    quiet,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fettle.report.evaluation import Result, Section

MOST_PATTERNS = 12
COLUMNS = 4
COLOURS = {"exact_match": EXACT_MATCH, CROSS_ENTROPY: VALIDATION}


def figures(section: Section) -> dict[str, Figure]:
    """`metrics`, `patterns` where there is more than one, `calibration` where it was measured."""
    drawn = {"metrics": _metrics(section)}
    patterns = sorted(set(section.results[0].compared.pattern.tolist()))
    telling = next(metric for metric in section.metrics if metric != CROSS_ENTROPY)
    if len(patterns) > 1:
        drawn["patterns"] = _patterns(section, patterns[:MOST_PATTERNS], telling)
    measured = [result for result in section.results if result.summary.get("calibration")]
    if measured:
        drawn["calibration"] = _calibration(section, measured)
    for figure in drawn.values():
        arrange(figure)
    return drawn


def as_svg(drawn: dict[str, Figure]) -> dict[str, str]:
    """Each figure as SVG to stand in a page."""
    matplotlib: Any = import_module("matplotlib")
    texts: dict[str, str] = {}
    for name, figure in drawn.items():
        stream = io.StringIO()
        # Without a date, and with names that follow from what they name, equal numbers give equal files.
        with matplotlib.rc_context({"svg.hashsalt": name}):
            figure.savefig(stream, format="svg", facecolor="white", metadata={"Date": None})
        text = stream.getvalue()
        texts[name] = text[text.index("<svg") :]
    return texts


def as_png(figure: Figure, dpi: int = 150) -> bytes:
    """A figure as PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, facecolor="white")
    return stream.getvalue()


def _metrics(section: Section) -> Figure:
    """One panel a metric, with intervals; the result to use has a star, what is worse than it a mark."""
    figure, axes = panels([1.9] * len(section.metrics))
    x = _places(section.results)
    for axis, metric in zip(axes, section.metrics, strict=True):
        _metric(axis, section, metric, x)
    _label_steps(axes[-1], section.results, x)
    figure.align_ylabels(axes)
    return figure


def _metric(axis: Axes, section: Section, metric: str, x: list[float]) -> None:
    from fettle.report.evaluation import summary_key

    scale = 1.0 if metric == CROSS_ENTROPY else 100.0
    key = summary_key(metric)
    found = [[r.summary.get(name) for name in (key, f"{key}_low", f"{key}_high")] for r in section.results]
    values = np.array([[np.nan if v is None else scale * v for v in row] for row in found], dtype=float)
    colour = COLOURS.get(metric, TRAIN)
    mean, low, high = values.T
    reach = np.abs(np.nan_to_num(np.stack([mean - low, high - mean])))
    axis.errorbar(
        x, mean, yerr=reach, color=colour, linewidth=1.5, marker="o", markersize=5, markeredgecolor="white",
        markeredgewidth=0.7, capsize=2.5, elinewidth=1, ecolor=colour,
    )  # fmt: skip
    for place, result in enumerate(section.results):
        change = section.changes.get(metric, {}).get(result.name)
        if change is not None and change.outcome == "regressed":
            axis.annotate(
                "▼", (x[place], mean[place]), xytext=(0, 9), textcoords="offset points", ha="center",
                fontsize=8, color=NOT_FINITE,
            )  # fmt: skip
        if section.best is not None and result.name == section.best.name:
            axis.plot(
                x[place], mean[place], marker="*", markersize=14, color=BEST, markeredgecolor=INK,
                markeredgewidth=0.8, zorder=6,
            )  # fmt: skip
    names = {"exact_match": "exact match (%)", CROSS_ENTROPY: "cross-entropy\n(nats per token)"}
    axis.set_ylabel(names.get(metric, f"{metric} (%)"), fontsize=9)
    axis.margins(y=0.18)
    if metric != CROSS_ENTROPY:
        axis.set_ylim(bottom=max(-3.0, axis.get_ylim()[0]))


def _patterns(section: Section, patterns: list[str], metric: str) -> Figure:
    """Small multiples on one scale: the share that is right of each kind of prompt."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = math.ceil(len(patterns) / COLUMNS)
    figure = Figure(figsize=(9.5, 0.4 + 1.9 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid: Any = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    x = _places(section.results)
    for place, axis in enumerate(grid.flat):
        if place >= len(patterns):
            axis.set_visible(False)
            continue
        quiet(axis)
        shares = [_share(result, metric, patterns[place]) for result in section.results]
        known = [(where, *share) for where, share in zip(x, shares, strict=True) if share is not None]
        if known:
            where, mean, low, high, counts = (list(column) for column in zip(*known, strict=True))
            axis.fill_between(where, low, high, color=EXACT_MATCH, alpha=0.16, linewidth=0)
            axis.plot(where, mean, color=EXACT_MATCH, linewidth=1.5, marker="o", markersize=3.5)
            axis.set_title(f"{patterns[place]} (n = {max(counts)})", fontsize=9, loc="left", color=INK)
        axis.set_ylim(-4, 104)
        _label_steps(axis, section.results, x, label=False)
    for axis in grid[:, 0]:
        axis.set_ylabel("right (%)", fontsize=9)
    return figure


def _share(result: Result, metric: str, pattern: str) -> tuple[float, float, float, int] | None:
    """Percent right of one kind of prompt with its Wilson interval, and the number of samples."""
    own = result.compared.pattern == pattern
    values = result.compared.values[metric].values[own]
    values = values[np.isfinite(values)]
    interval = wilson_interval(round(float(values.sum())), values.size)
    if interval is None:
        return None
    return 100 * float(values.mean()), 100 * interval[0], 100 * interval[1], int(values.size)


def _calibration(section: Section, measured: list[Result]) -> Figure:
    """Confidence against accuracy of the first, the result to use, and the last."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chosen = [r for r in measured if section.best is not None and r.name == section.best.name]
    shown = {result.name: result for result in (measured[0], *chosen, measured[-1])}
    figure = Figure(figsize=(3.1 * len(shown) + 0.3, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    grid: Any = figure.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)
    for axis, result in zip(grid[0], shown.values(), strict=True):
        quiet(axis)
        bins = result.summary["calibration"]
        confidence, accuracy = ([100 * bin_[key] for bin_ in bins] for key in ("confidence", "accuracy"))
        share = np.array([bin_["tokens"] for bin_ in bins])
        axis.plot([0, 100], [0, 100], color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
        axis.plot(confidence, accuracy, color=TRAIN, linewidth=1, alpha=0.6)
        axis.scatter(confidence, accuracy, s=12 + 160 * share / share.sum(), color=TRAIN, edgecolor="white")
        error = result.summary.get("expected_calibration_error")
        title = result.name if error is None else f"{result.name}   ECE {error:.3f}"
        axis.set_title(title, fontsize=9, loc="left", color=INK)
        axis.set_xlabel("confidence (%)", fontsize=9)
    grid[0][0].set_ylabel("tokens right (%)", fontsize=9)
    return figure


def _places(results: list[Result]) -> list[float]:
    """Steps where all have different ones, else one place after another."""
    steps = [result.step for result in results]
    if all(step is not None for step in steps) and len(set(steps)) == len(steps):
        return [float(step or 0) for step in steps]
    return [float(i) for i in range(len(results))]


def _label_steps(axis: Axes, results: list[Result], x: list[float], *, label: bool = True) -> None:
    if x == [float(i) for i in range(len(x))]:
        axis.set_xticks(x, [result.name for result in results], fontsize=8)
    elif label:
        axis.set_xlabel("step (0: the base model)" if results[0].name == "base" else "step", fontsize=9)
        axis.xaxis.set_major_formatter("{x:,.0f}")
    else:
        axis.locator_params(axis="x", nbins=4)
        axis.xaxis.set_major_formatter("{x:,.0f}")
