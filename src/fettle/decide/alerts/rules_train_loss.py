"""Alerts about the train loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fettle.decide.alerts.cures import restart_lower, stop_and_restart, stop_and_use_best
from fettle.decide.alerts.numbers import above, below
from fettle.decide.alerts.rule import Finding, Record, Rule
from fettle.decide.alerts.run_state import RunState
from fettle.decide.alerts.window import Halves, Window

if TYPE_CHECKING:
    from fettle.config import AlertsConfig

TRAIN = frozenset({"train"})


class NanLoss(Rule):
    """Loss or gradient is not a number."""

    category = "nan_loss"
    level = "critical"
    reads = TRAIN
    waits = False

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._count = 0

    def judge(self, record: Record, run: RunState) -> bool | None:
        if run.loss_nonfinite or run.grad_norm_nonfinite:
            self._count += 1
            return True if self._count >= self.threshold else None
        if run.loss is None:
            return None
        self._count = 0
        return False

    def finding(self, run: RunState) -> Finding:
        broken = {"loss": run.loss_nonfinite, "grad_norm": run.grad_norm_nonfinite}
        broken = {name: value for name, value in broken.items() if value}
        names = {"loss": "Loss", "grad_norm": "gradient norm" if "loss" in broken else "Gradient norm"}
        what = " and ".join(f"{names[name]} is {value}" for name, value in broken.items())
        return Finding(
            f"{what} at step {run.step}.",
            stop_and_restart(run),
            {**broken, "last_good_checkpoint": run.last_checkpoint, "learning_rate": run.learning_rate},
        )


class LossSpike(Rule):
    """Loss far above its recent mean."""

    category = "loss_spike"
    level = "warning"
    reads = TRAIN

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._window = Window(config.loss_spike_steps)
        self._loss = 0.0

    def judge(self, record: Record, run: RunState) -> bool | None:
        loss, window = run.loss, self._window
        if loss is None:
            return None
        if not window.full or window.mean <= 0:
            window.push(loss)
            return None
        verdict = above(loss, self.threshold * window.mean, self.hysteresis)
        if verdict:
            # What spikes does not raise the mean it is held against.
            self._loss = loss
        else:
            window.push(loss)
        return verdict

    def finding(self, run: RunState) -> Finding:
        mean = self._window.mean
        return Finding(
            f"Loss {self._loss:.3f} at step {run.step} is {self._loss / mean:.1f} times its mean of "
            f"{mean:.3f} over the {self._window.size} steps before.",
            "Look at the batch of this step. If loss does not come back: "
            f"{restart_lower(run.last_checkpoint, run.peak_rate)}",
            {"loss": self._loss, "mean": mean, "ratio": self._loss / mean, "steps": self._window.size},
        )


class LossVariance(Rule):
    """Loss jumps from step to step."""

    category = "loss_variance"
    level = "info"
    reads = TRAIN

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._window = Window(config.loss_variance_steps)

    def judge(self, record: Record, run: RunState) -> bool | None:
        if run.loss is None:
            return None
        self._window.push(run.loss)
        if not self._window.full:
            return None
        mean = self._window.mean
        return above(self._window.variance, self.threshold * mean * mean, self.hysteresis)

    def finding(self, run: RunState) -> Finding:
        variance, mean = self._window.variance, self._window.mean
        return Finding(
            f"Loss varies by {variance**0.5:.3f} around {mean:.3f} over the last {self._window.size} steps.",
            "Raise gradient_accumulation_steps or batch_size, or check the data for odd examples.",
            {"variance": variance, "mean": mean, "ratio": variance / (mean * mean) if mean else None},
        )


class Plateau(Rule):
    """Train loss no longer falls."""

    category = "plateau"
    level = "warning"
    reads = TRAIN

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._halves = Halves(config.plateau_steps)

    def judge(self, record: Record, run: RunState) -> bool | None:
        if run.loss is None:
            return None
        self._halves.push(run.loss)
        if not self._halves.full:
            return None
        older, newer = self._halves.means
        return below(older - newer, self.threshold * abs(older), self.hysteresis)

    def finding(self, run: RunState) -> Finding:
        older, newer = self._halves.means
        improvement = (older - newer) / abs(older) if older else 0.0
        steps = 2 * self._halves.half
        change = f"{'rose' if improvement < 0 else 'fell'} by {100 * abs(improvement):.1f} %"
        return Finding(
            f"Train loss {change} within the last {steps} steps ({older:.3f} to {newer:.3f}).",
            f"Judge by the fixed eval. If it is flat too: {stop_and_use_best(run)}",
            {"older_mean": older, "newer_mean": newer, "improvement": improvement, "steps": steps},
            first_step=None if run.step is None else run.step - steps + 1,
        )
