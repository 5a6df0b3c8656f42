"""Alerts about steps that have nothing to learn from, or no loss to show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fettle.decide.alerts.numbers import number
from fettle.decide.alerts.rule import Finding, Record, Rule
from fettle.decide.alerts.rules_train_loss import TRAIN
from fettle.decide.alerts.run_state import RunState

if TYPE_CHECKING:
    from fettle.config import AlertsConfig


class NoLabelTokens(Rule):
    """Batches without a token that carries loss."""

    category = "no_label_tokens"
    level = "critical"
    reads = TRAIN

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._count = 0

    def judge(self, record: Record, run: RunState) -> bool | None:
        tokens = number(record, "completion_tokens")
        if tokens is None:
            return None
        self._count = self._count + 1 if tokens == 0 else 0
        return self._count >= self.threshold or (False if self._count == 0 else None)

    def finding(self, run: RunState) -> Finding:
        return Finding(
            f"No token of the batch of step {run.step} carries loss: it teaches nothing.",
            "Check that the training data has labels (an answer to learn from), "
            "and raise the maximal length that cuts it.",
            {"completion_tokens": 0, "steps": self._count},
        )


class LossNotMeasured(Rule):
    """Steps whose loss nobody computed."""

    category = "loss_not_measured"
    level = "warning"
    reads = TRAIN

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._count = 0

    def judge(self, record: Record, run: RunState) -> bool | None:
        if run.loss is not None:
            self._count = 0
            return False
        if run.loss_nonfinite or record.get("completion_tokens") == 0:
            return None
        self._count += 1
        return True if self._count >= self.threshold else None

    def finding(self, run: RunState) -> Finding:
        return Finding(
            f"Train loss of step {run.step} was not measured: the model computes none from labels here.",
            "Judge by the fixed eval.",
            {"steps": self._count},
        )
