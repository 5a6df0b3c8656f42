"""What of a run the view shows: everything is read from its records, or decided by `decide`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fettle.decide.alerts import LEVELS, active_alerts, told_alert
from fettle.decide.direction import average_direction, eval_direction, noisy_direction
from fettle.errors import RunError
from fettle.metrics.buckets import Buckets, min_max_buckets
from fettle.metrics.layers import layer_activity_summary
from fettle.runs.column_names import FLAG
from fettle.runs.numbers import integer, number
from fettle.runs.records import FixedEval
from fettle.watch.facts import Curves, Loss, Losses

if TYPE_CHECKING:
    from fettle.api import Run

BUCKETS = 600
"""Of a curve: two for each column of a plot as wide as a terminal gets."""


def losses(run: Run, evals: Sequence[FixedEval]) -> Losses:
    """The last train loss, its moving average and the last validation loss, each with its direction."""
    columns, nothing = run.columns("train"), np.empty(0)
    rows = run.records("train", last=1)
    row: dict[str, Any] = rows[-1] if rows else {}
    step = integer(row.get("step"))
    loss, average = columns.get("loss", nothing), columns.get("streaming_ce", nothing)
    return Losses(
        train=Loss(number(row.get("loss")), _nonfinite(row, "loss"), step, noisy_direction(loss)),
        streaming=Loss(
            number(row.get("streaming_ce")), _nonfinite(row, "streaming_ce"), step, average_direction(average)
        ),
        validation=_validation(evals),
    )


def _validation(evals: Sequence[FixedEval]) -> Loss:
    if not evals:
        return Loss()
    last = evals[-1]
    flag = _nonfinite(last.extra, "cross_entropy")
    return Loss(last.cross_entropy, flag, last.step, eval_direction(evals))


def _nonfinite(record: Mapping[str, Any], key: str) -> str | None:
    """What a value was logged as, where it is no number."""
    flag = record.get(key + FLAG)
    return flag if isinstance(flag, str) else None


def curves(run: Run) -> Curves:
    """Train loss and its moving average as buckets of all its steps."""
    columns = run.columns("train")
    nothing = np.empty(0)
    steps = columns.get("step", nothing)

    def buckets(key: str) -> Buckets:
        codes = run.nonfinite("train", key)
        if steps.size == 0 or (key not in columns and codes is None):
            return min_max_buckets(nothing, nothing, BUCKETS)
        values = columns[key] if key in columns else np.full(steps.size, np.nan)
        return min_max_buckets(steps, values, BUCKETS, codes)

    return Curves(buckets("loss"), buckets("streaming_ce"))


def layers(run: Run) -> dict[str, Any] | None:
    """What moved most by the last measurement; None without any."""
    measured = run.layers()
    if not measured:
        return None
    last = measured[-1]
    return {"step": last.step, "method": last.method, **layer_activity_summary(last.groups)}


def alerts(run: Run) -> tuple[dict[str, Any], ...]:
    """The open ones, the most serious first."""
    try:
        open_ones = run.alerts()
    except RunError:  # Its configuration is damaged: those that were logged stand.
        open_ones = active_alerts(run.records("alert"))
    found = [told_alert(alert) for alert in open_ones]
    return tuple(sorted(found, key=_rank, reverse=True))


def _rank(alert: dict[str, Any]) -> int:
    severity = alert["severity"]
    return LEVELS.index(severity) if severity in LEVELS else -1


def verdict(run: Run) -> tuple[dict[str, Any] | None, str | None]:
    """The verdict as plain values, or why there is none."""
    try:
        return run.verdict().to_json(), None
    except RunError as error:
        return None, str(error)
