"""Training curves as a PNG: loss, exact match and throughput over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fettle.decide import loss_comparability
from fettle.errors import RunError
from fettle.report.figure import (
    EXACT_MATCH,
    INK,
    NOT_FINITE,
    QUIET,
    SPEED,
    TRAIN,
    VALIDATION,
    panels,
    save_png,
    star,
)
from fettle.report.series import Series, epoch_ends, losses_of, series, thinned
from fettle.runs.records import FixedEval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Columns = Mapping[str, NDArray[np.float64]]

LOG_SCALE_ABOVE = 30.0
"""Largest over smallest loss from which a linear axis would hide the end of the run."""


def plot_curves(
    train: Columns,
    evals: Sequence[FixedEval],
    *,
    output: Path,
    dpi: int = 150,
    ema_alpha: float = 0.1,
    early_stop: Mapping[str, Any] | None = None,
    title: str = "",
) -> Path:
    """Draw a run and write it as PNG to `output`; returns that path.

    Top: train loss raw and smoothed (bias-corrected EMA) and validation loss, nats per token, with
    epochs, the best evaluation and the early stop; train loss that is not comparable with
    validation gets an axis of its own. Then exact match with its interval, and tokens per second;
    a panel that was not measured is left out. Points that are not finite are marked at the lower
    edge. Raises RunError where there is nothing to draw or the file cannot be written.
    """
    loss, validation = series(train, "loss"), losses_of(evals)
    if not (loss.known or validation.known):
        raise RunError(f"{title or 'run'}: no train loss and no evaluation to plot")
    exact = [e for e in evals if e.exact_match is not None]
    speed = series(train, "tokens_per_sec")

    figure, axes = panels([3.2] + [1.5] * bool(exact) + [1.2] * speed.known)
    comparable = loss_comparability(train, evals)
    train_axis = axes[0]
    if comparable.comparable is False and loss.known and validation.known:
        train_axis = _own_axis(axes[0], comparable.ratio)
    _draw_loss(axes[0], train_axis, loss, validation, ema_alpha)
    others = iter(axes[1:])
    if exact:
        _draw_exact_match(next(others), exact)
    if speed.known:
        _draw_speed(next(others), speed, ema_alpha)
    _draw_epochs(axes, train)
    _draw_early_stop(axes, early_stop)
    _legend(axes[0], train_axis)
    axes[-1].set_xlabel("step")
    figure.align_ylabels(axes)
    axes[-1].xaxis.set_major_formatter("{x:,.0f}")
    axes[0].set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=18)
    return save_png(figure, output, dpi)


# -- the panels ------------------------------------------------------------------


def _own_axis(axis: Axes, ratio: float | None) -> Axes:
    """A right-hand axis for a train loss of another scale."""
    own: Axes = axis.twinx()
    own.spines[["top", "left"]].set_visible(False)
    own.spines["right"].set_color(TRAIN)
    own.tick_params(colors=TRAIN, labelsize=9)
    times = f", about {ratio:.0f} × validation" if ratio is not None else ""
    own.set_ylabel(f"train loss as logged\n(not comparable{times})", color=TRAIN, fontsize=9)
    # The validation curve stays in front.
    axis.set_zorder(own.get_zorder() + 1)
    axis.patch.set_visible(False)
    axis.grid(False)
    return own


def _draw_loss(axis: Axes, train_axis: Axes, loss: Series, validation: Series, ema_alpha: float) -> None:
    smooth = loss.smoothed(ema_alpha)
    if loss.known:
        _draw_train(train_axis, loss, smooth, ema_alpha)
    if validation.known:
        steps, values = validation.finite()
        axis.plot(
            steps, values, color=VALIDATION, linewidth=1.6, marker="o", markersize=4.5,
            markeredgecolor="white", markeredgewidth=0.7, label="validation", zorder=4,
        )  # fmt: skip
        best = int(np.argmin(values))
        # The curve bends up around its lowest point: both sides are free of it. Train loss is on one.
        beneath = train_axis is axis and smooth.at(float(steps[best])) > values[best]
        text = f"best {values[best]:.4f}, step {steps[best]:,.0f}"
        star(axis, steps, values, best, text, above=not beneath)
    own = train_axis is not axis
    axis.set_ylabel("validation loss\n(nats per token)" if own else "loss (nats per token)", fontsize=9)
    _scale(axis, [validation] if own else [smooth, validation])
    if own:
        _scale(train_axis, [smooth])
    _mark_not_finite(train_axis, loss)
    _mark_not_finite(axis, validation)


def _draw_train(axis: Axes, loss: Series, smooth: Series, ema_alpha: float) -> None:
    if smooth is loss:
        # An average over more rows than there are would only lag behind them.
        axis.plot(loss.steps, loss.values, color=TRAIN, linewidth=1.6, marker=".", label="train")
        return
    axis.plot(*thinned(loss.steps, loss.values), color=TRAIN, alpha=0.28, linewidth=0.9, label="train")
    label = f"train, EMA (α = {ema_alpha:g})"
    axis.plot(*thinned(smooth.steps, smooth.values), color=TRAIN, linewidth=1.8, label=label)


def _scale(axis: Axes, drawn: Sequence[Series]) -> None:
    """A logarithmic axis where the loss falls so far that a linear one would hide the end."""
    values = np.concatenate([s.finite()[1] for s in drawn])
    if values.size and values.min() > 0 and values.max() / values.min() > LOG_SCALE_ABOVE:
        from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
    # Room for the label of the best point and for the marks at the foot.
    axis.margins(y=0.1)
    if values.size and values.min() >= 0 and axis.get_ylim()[0] < 0:
        axis.set_ylim(bottom=0)


def _mark_not_finite(axis: Axes, drawn: Series) -> None:
    steps = drawn.steps[~np.isfinite(drawn.values)]
    if not steps.size:
        return
    axis.plot(
        steps, np.full(steps.size, 0.025), transform=axis.get_xaxis_transform(), marker="x", markersize=7,
        markeredgewidth=1.8, color=NOT_FINITE, linestyle="none", clip_on=False, zorder=8,
        label=f"{drawn.name} not finite ({steps.size:,})",
    )  # fmt: skip


def _draw_exact_match(axis: Axes, evals: Sequence[FixedEval]) -> None:
    steps = np.array([e.step for e in evals], dtype=np.float64)
    share = np.array([100 * (e.exact_match or 0.0) for e in evals])
    low, high = _band(evals)
    axis.fill_between(steps, low, high, color=EXACT_MATCH, alpha=0.16, linewidth=0)
    axis.plot(
        steps, share, color=EXACT_MATCH, linewidth=1.6, marker="o", markersize=4.5,
        markeredgecolor="white", markeredgewidth=0.7,
    )  # fmt: skip
    best = int(np.argmax(share))
    if share[best] > 0:
        star(
            axis,
            steps,
            share,
            best,
            f"best {share[best]:.1f} %, step {steps[best]:,.0f}",
            above=False,
            size=12,
        )
    axis.set_ylabel("exact match\n(%, 95 % interval)", fontsize=9)
    axis.set_ylim(max(0.0, float(low.min()) - 4), min(103.0, max(float(high.max()) + 6, 8.0)))


def _band(evals: Sequence[FixedEval]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    def end(value: float | None, share: float | None) -> float:
        return 100 * (value if value is not None else share or 0.0)

    low = np.array([end(e.exact_match_low, e.exact_match) for e in evals])
    high = np.array([end(e.exact_match_high, e.exact_match) for e in evals])
    return low, high


def _draw_speed(axis: Axes, speed: Series, ema_alpha: float) -> None:
    steps, values = speed.finite()
    smooth = Series(speed.name, steps, values).smoothed(ema_alpha)
    axis.plot(*thinned(steps, values), color=SPEED, alpha=0.3, linewidth=0.9)
    axis.plot(*thinned(smooth.steps, smooth.values), color=SPEED, linewidth=1.6)
    axis.set_ylabel("tokens / s", fontsize=9)
    axis.set_ylim(0, float(values.max()) * 1.12 or 1.0)
    axis.yaxis.set_major_formatter("{x:,.0f}")
    axis.locator_params(axis="y", nbins=4)


# -- lines over all panels ---------------------------------------------------------


def _draw_epochs(axes: Sequence[Axes], train: Columns) -> None:
    ends = epoch_ends(train)
    every = -(-len(ends) // 12) if ends else 1
    for epoch, step in ends[::every]:
        for axis in axes:
            axis.axvline(step, color="#BDBDBD", linewidth=0.9, linestyle=(0, (1, 2.5)), zorder=1)
        axes[0].annotate(
            f"epoch {epoch}", (step, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3),
            textcoords="offset points", ha="center", fontsize=8, color=QUIET, annotation_clip=False,
        )  # fmt: skip


def _draw_early_stop(axes: Sequence[Axes], early_stop: Mapping[str, Any] | None) -> None:
    step = (early_stop or {}).get("step")
    if not isinstance(step, int | float):
        return
    for axis in axes:
        axis.axvline(float(step), color=INK, linewidth=1.2, linestyle=(0, (5, 3)), zorder=3)
    axes[0].annotate(
        f"early stop, step {step:,.0f}", (float(step), 0.98), xycoords=("data", "axes fraction"),
        xytext=(-4, 0), textcoords="offset points", ha="right", va="top", rotation=90, fontsize=8, color=INK,
    )  # fmt: skip


def _legend(axis: Axes, train_axis: Axes) -> None:
    handles, labels = train_axis.get_legend_handles_labels()
    if train_axis is not axis:
        more, names = axis.get_legend_handles_labels()
        handles, labels = [*handles, *more], [*labels, *names]
    axis.legend(handles, labels, loc="best", frameon=True, framealpha=0.85, edgecolor="none", fontsize=8.5)
