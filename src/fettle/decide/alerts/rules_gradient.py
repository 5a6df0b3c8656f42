"""Alerts about gradients and the learning rate that scales them."""

from __future__ import annotations

from fettle.decide.alerts.cures import stop_and_restart
from fettle.decide.alerts.numbers import above, below
from fettle.decide.alerts.rule import Finding, Record, Rule
from fettle.decide.alerts.rules_train_loss import TRAIN
from fettle.decide.alerts.run_state import RunState


class ExplodingGradients(Rule):
    """Gradient norm far too large."""

    category = "exploding_gradients"
    level = "critical"
    reads = TRAIN

    def judge(self, record: Record, run: RunState) -> bool | None:
        norm = run.grad_norm
        return None if norm is None else above(norm, self.threshold, self.hysteresis)

    def finding(self, run: RunState) -> Finding:
        return Finding(
            f"Gradient norm {run.grad_norm:.4g} at step {run.step} is above {self.threshold:g}.",
            f"If it happens again: {stop_and_restart(run)} Clip gradients (max_grad_norm: 1.0).",
            {"grad_norm": run.grad_norm, "learning_rate": run.learning_rate},
        )


class VanishingGradients(Rule):
    """Gradient norm next to nothing. Exactly zero is a batch without labels, not a vanishing gradient."""

    category = "vanishing_gradients"
    level = "warning"
    reads = TRAIN

    def judge(self, record: Record, run: RunState) -> bool | None:
        norm = run.grad_norm
        return below(norm, self.threshold, self.hysteresis) if norm else None

    def finding(self, run: RunState) -> Finding:
        return Finding(
            f"Gradient norm {run.grad_norm:.1e} at step {run.step} is below {self.threshold:.0e}: "
            "nothing is learned.",
            "Check that the trained weights require gradients and that the dtype holds numbers this small "
            "(bfloat16 or float32, not float16).",
            {"grad_norm": run.grad_norm, "learning_rate": run.learning_rate},
        )


class HighLearningRate(Rule):
    """Learning rate that rarely ends well."""

    category = "high_learning_rate"
    level = "warning"
    reads = TRAIN

    def judge(self, record: Record, run: RunState) -> bool | None:
        rate = run.learning_rate
        return None if rate is None else above(rate, self.threshold, self.hysteresis)

    def finding(self, run: RunState) -> Finding:
        return Finding(
            f"Learning rate {run.learning_rate:.1e} at step {run.step} is above {self.threshold:.0e}.",
            "Watch loss and gradient norm; LoRA rarely needs more than learning_rate 5e-4.",
            {"learning_rate": run.learning_rate},
        )


class LowLearningRate(Rule):
    """Learning rate too small to learn with, outside warm-up and planned decay."""

    category = "low_learning_rate"
    level = "info"
    reads = TRAIN

    def judge(self, record: Record, run: RunState) -> bool | None:
        rate = run.learning_rate
        if rate is None:
            return None
        verdict = below(rate, self.threshold, self.hysteresis)
        return None if verdict and self._planned(run, rate) else verdict

    def _planned(self, run: RunState, rate: float) -> bool:
        """Early steps, a rising rate (warm-up), and the last share of the plan (decay)."""
        step = run.step or 0
        if step <= self.config.low_learning_rate_after_steps:
            return True
        if run.rate_before is None or rate > run.rate_before:
            return True
        return run.total_steps is not None and step > (1 - self.config.planned_decay) * run.total_steps

    def finding(self, run: RunState) -> Finding:
        of = f" of {run.total_steps}" if run.total_steps else ""
        return Finding(
            f"Learning rate {run.learning_rate:.1e} at step {run.step}{of} is below {self.threshold:.0e}: "
            "hardly anything is learned.",
            "Check the schedule: fewer steps, or a higher peak.",
            {"learning_rate": run.learning_rate, "total_steps": run.total_steps},
        )
