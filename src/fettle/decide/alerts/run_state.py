"""What rules know of the run beside the record they judge."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from fettle.decide.alerts.eval_history import EvalHistory
from fettle.decide.alerts.numbers import nonfinite, number


class RunState:
    """The run as far as its records tell, at the same cost for each of them."""

    def __init__(self) -> None:
        self.step: int | None = None
        self.total_steps: int | None = None
        self.loss: float | None = None
        """Of the last train record; None where it was not finite or not measured."""
        self.loss_nonfinite: str | None = None
        self.grad_norm: float | None = None
        self.grad_norm_nonfinite: str | None = None
        self.learning_rate: float | None = None
        """In force at the last train record."""
        self.peak_rate: float | None = None
        """Of the schedule: as its start says, else the highest so far."""
        self.rate_before: float | None = None
        """In force at the record before."""
        self.last_checkpoint: str | None = None
        """Name of the newest checkpoint saved while the loss was a number."""
        self.best_checkpoint: str | None = None
        """Name of the checkpoint with the best exact match, cross-entropy breaking ties."""
        self.step_seconds = 0.0
        self.eval_seconds = 0.0
        self.incomparable = False
        """Whether the trainer itself said that its loss covers other tokens than the fixed eval."""
        self.evals = EvalHistory()
        self._best: tuple[float, float] | None = None

    def observe(self, type: str, record: Mapping[str, Any]) -> None:
        """Take in a record before it is judged."""
        step = number(record, "step")
        if step is not None:
            self.step = int(step)
        if type == "train":
            self._train(record)
        elif type == "fixed_eval":
            self.eval_seconds += number(record, "seconds") or 0.0
            self.evals.add_eval(self.step or 0, record)
        elif type == "checkpoint":
            self._checkpoint(record)
        elif type == "start":
            total = number(record, "total_steps")
            self.total_steps = None if total is None else int(total)
            self.peak_rate = number(record, "learning_rate")
            # Another start may train on other tokens; its trainer will say so again.
            self.incomparable = False
            # A run that goes on from a checkpoint which another tool saved.
            self.last_checkpoint = record.get("checkpoint") or self.last_checkpoint
        elif type == "comparability":
            self.incomparable = record.get("comparable") is False

    def _train(self, record: Mapping[str, Any]) -> None:
        self.loss = loss = number(record, "loss")
        self.loss_nonfinite = nonfinite(record, "loss") if loss is None else None
        self.grad_norm = number(record, "grad_norm")
        # Under a loss scaler (fp16) an overflow skips the step, as is planned.
        broken = self.grad_norm is None and not record.get("skipped")
        self.grad_norm_nonfinite = nonfinite(record, "grad_norm") if broken else None
        self.rate_before = self.learning_rate
        self.learning_rate = number(record, "learning_rate")
        if self.learning_rate is not None:
            self.peak_rate = max(self.learning_rate, self.peak_rate or 0.0)
        self.step_seconds += number(record, "step_time") or 0.0
        if loss is not None:
            self.evals.add_train(loss, record)

    def _checkpoint(self, record: Mapping[str, Any]) -> None:
        if self.loss_nonfinite or self.grad_norm_nonfinite:
            return
        path = record.get("path")
        name = PurePosixPath(str(path)).name if path else f"checkpoint-{self.step}"
        self.last_checkpoint = name
        exact_match, loss = number(record, "exact_match"), number(record, "cross_entropy")
        if exact_match is None and loss is None:
            return
        rank = (-1.0 if exact_match is None else exact_match, float("-inf") if loss is None else -loss)
        if self._best is None or rank > self._best:
            self._best, self.best_checkpoint = rank, name
