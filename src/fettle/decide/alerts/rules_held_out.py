"""Alerts about train loss and held-out loss side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fettle.decide.alerts.cures import stop_and_use_best
from fettle.decide.alerts.numbers import above, number
from fettle.decide.alerts.rule import Finding, Record, Rule
from fettle.decide.alerts.rules_evaluation import EVAL
from fettle.decide.alerts.run_state import RunState
from fettle.decide.overfitting import Overfitting

if TYPE_CHECKING:
    from fettle.config import AlertsConfig


class OverfittingBegan(Rule):
    """Held-out loss rises from its best while train loss falls."""

    category = "overfitting"
    level = "warning"
    reads = EVAL

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._sign: Overfitting | None = None

    def judge(self, record: Record, run: RunState) -> bool | None:
        self._sign = run.evals.overfitting
        if self._sign is None:
            # Back at its best, or on its way there; undecided numbers are neither.
            return None if run.evals.cross_entropy.standing in ("undecided", "regressing") else False
        return above(self._sign.cross_entropy_rise, self.threshold, self.hysteresis)

    def finding(self, run: RunState) -> Finding:
        assert self._sign is not None
        sign = self._sign
        return Finding(
            f"Overfitting since step {sign.since_step}: held-out cross-entropy rose by "
            f"{sign.cross_entropy_rise:.3f} nats while train loss fell by {sign.train_loss_fall:.3f}.",
            f"{stop_and_use_best(run)} Next time: fewer epochs, or more data.",
            {**sign.to_json(), "best_checkpoint": run.best_checkpoint},
            first_step=sign.since_step,
        )


class ValidationGap(Rule):
    """Held-out loss far above train loss."""

    category = "val_gap"
    level = "warning"
    reads = EVAL

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._losses = (0.0, 0.0)

    def judge(self, record: Record, run: RunState) -> bool | None:
        held_out, train = number(record, "cross_entropy"), run.evals.train_loss
        if held_out is None or train is None:
            return None
        if run.incomparable or run.evals.comparability.comparable is not True:
            return None
        self._losses = train, held_out
        return above(held_out - train, self.threshold, self.hysteresis)

    def finding(self, run: RunState) -> Finding:
        train, held_out = self._losses
        return Finding(
            f"Held-out cross-entropy {held_out:.3f} is {held_out - train:.3f} nats above train loss "
            f"{train:.3f} at step {run.step}.",
            "The model memorises. Stop at the best fixed eval; next time fewer epochs, more data, or a "
            "smaller LoRA rank.",
            {"train_loss": train, "cross_entropy": held_out, "gap": held_out - train},
        )


class NotComparable(Rule):
    """Train loss and held-out loss are two different quantities."""

    category = "not_comparable"
    level = "warning"
    reads = frozenset({"fixed_eval", "comparability"})

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._share: float | None = None

    def judge(self, record: Record, run: RunState) -> bool | None:
        if "completion_share" in record:
            self._share = number(record, "completion_share")
        if run.incomparable:
            return True
        found = run.evals.comparability
        if found.comparable is False and found.ratio is not None and found.ratio > self.threshold:
            return True
        return False if found.comparable else None

    def finding(self, run: RunState) -> Finding:
        if run.incomparable:
            share = "" if self._share is None else f" ({self._share:.0%})"
            return Finding(
                f"The trainer's loss covers every token, the fixed eval completions only{share}.",
                "Train on completions (TRL: completion_only_loss or assistant_only_loss), or leave the gap "
                "between the two losses out of account.",
                {"completion_share": self._share},
            )
        found = run.evals.comparability
        summed = f" Divide it by {found.factor}." if found.factor else ""
        return Finding(
            f"{found.explanation[0].upper()}{found.explanation[1:]}.",
            f"Judge by the fixed eval only; log train loss as a mean per token.{summed}",
            {"ratio": found.ratio, "factor": found.factor},
        )
