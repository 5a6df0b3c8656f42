"""Alerts about time that goes into watching instead of training."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from fettle.decide.alerts.numbers import above, number
from fettle.decide.alerts.rule import Finding, Record, Rule
from fettle.decide.alerts.rules_evaluation import EVAL
from fettle.decide.alerts.rules_train_loss import TRAIN
from fettle.decide.alerts.run_state import RunState

if TYPE_CHECKING:
    from fettle.config import AlertsConfig

SMOOTHING = 0.02
"""Weight of the newest step in an exponential mean; recording time jumps, so about 50 steps count."""


class EvaluationOverhead(Rule):
    """Fixed evals that take too much of the run."""

    category = "evaluation_overhead"
    level = "info"
    reads = EVAL

    def judge(self, record: Record, run: RunState) -> bool | None:
        total = run.step_seconds + run.eval_seconds
        if not run.step_seconds or total < self.config.overhead_after_seconds:
            return None
        return above(run.eval_seconds / total, self.threshold, self.hysteresis)

    def finding(self, run: RunState) -> Finding:
        share = run.eval_seconds / (run.step_seconds + run.eval_seconds)
        factor = share / (1 - share) * (1 - self.threshold) / self.threshold
        # Rounded up: "1.0 times" would change nothing.
        factor = ceil(10 * factor - 1e-6) / 10
        return Finding(
            f"Fixed evals took {share:.0%} of the time so far.",
            f"Raise eval_interval_steps {factor:.1f} times, or lower max_samples.",
            {"share": share, "eval_seconds": run.eval_seconds, "step_seconds": run.step_seconds},
        )


class MonitorOverhead(Rule):
    """Recording that takes too much of a step."""

    category = "monitor_overhead"
    level = "warning"
    reads = TRAIN

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._monitor: float | None = None
        self._step = 0.0

    def judge(self, record: Record, run: RunState) -> bool | None:
        monitor, step = number(record, "monitor_time"), number(record, "step_time")
        if monitor is None or not step:
            return None
        if self._monitor is None:
            self._monitor, self._step = monitor, step
        self._monitor += SMOOTHING * (monitor - self._monitor)
        self._step += SMOOTHING * (step - self._step)
        if run.step_seconds < self.config.overhead_after_seconds:
            return None
        return above(self._monitor, self.threshold * self._step, self.hysteresis)

    def finding(self, run: RunState) -> Finding:
        monitor = self._monitor or 0.0
        return Finding(
            f"Recording takes {monitor / self._step:.0%} of a step.",
            "Put the run folder on a faster disk.",
            {"monitor_seconds": monitor, "step_seconds": self._step, "share": monitor / self._step},
        )
