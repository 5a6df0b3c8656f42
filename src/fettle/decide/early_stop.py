"""Early stopping: evaluations without an improvement worth having."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class EarlyStopDecision:
    """What one evaluation meant for early stopping."""

    improved: bool
    """Better than the reference by more than the threshold: the count starts over."""
    should_stop: bool
    evals_without_improvement: int
    best: float | None
    """Lowest value so far, by however little."""
    best_step: int | None
    new_best: bool
    """This evaluation is the lowest so far: keep its weights, even if it did not reset the count."""


class EarlyStopping:
    """Counts evaluations that do not improve, and says stop after `patience` of them.

    An evaluation improves when value < reference - threshold, strictly; with `relative` set, when
    value < reference · (1 - relative) instead. The reference moves only with such an improvement,
    so that slow progress adds up until it counts. The first measured value is an improvement.
    Patience 0 is off: it counts, and never stops.

    Every evaluation counts once, known by its step and, where given, by its unique `eval_id`: told
    again, it gets its first answer. A value that is missing or not finite was not measured and
    counts for nothing.
    """

    def __init__(self, patience: int, threshold: float = 0.01, relative: float | None = None) -> None:
        self.patience = patience
        self.threshold = threshold
        self.relative = relative
        self._reference: float | None = None
        self._best: float | None = None
        self._best_step: int | None = None
        self._count = 0
        self._answers: dict[str, EarlyStopDecision] = {}

    @property
    def best(self) -> float | None:
        """Lowest value so far; None before the first."""
        return self._best

    @property
    def best_step(self) -> int | None:
        """Step of the lowest value; the earlier one of equals."""
        return self._best_step

    @property
    def evals_without_improvement(self) -> int:
        """Measured evaluations since the last improvement."""
        return self._count

    @property
    def stopped(self) -> bool:
        """Whether patience is used up; also after a restore, so that a re-run knows it had stopped."""
        return self.patience > 0 and self._count >= self.patience

    @property
    def reason(self) -> str | None:
        """One sentence for a run that stopped; None for one that goes on."""
        if not self.stopped or self._best is None:
            return None
        needed = f"{self.relative:.2%}" if self.relative is not None else f"{self.threshold:g}"
        return (
            f"{self._count} evaluations in a row did not improve by more than {needed}; "
            f"the best was {self._best:.4f} at step {self._best_step}"
        )

    def update(self, step: int, value: float | None, eval_id: str | None = None) -> EarlyStopDecision:
        """Count the evaluation at `step` with this value (lower is better)."""
        keys = [f"step:{step}"] if eval_id is None else [f"step:{step}", f"id:{eval_id}"]
        for key in keys:
            if key in self._answers:
                return self._answers[key]
        if value is None or not math.isfinite(value):
            return self._decision(improved=False, new_best=False)
        new_best = self._best is None or value < self._best
        if new_best:
            self._best, self._best_step = float(value), step
        improved = self._reference is None or value < self._needed(self._reference)
        if improved:
            self._reference = float(value)
        self._count = 0 if improved else self._count + 1
        decision = self._decision(improved=improved, new_best=new_best)
        self._answers.update(dict.fromkeys(keys, decision))
        return decision

    def state_dict(self) -> dict[str, Any]:
        """JSON-able state; a checkpoint carries it."""
        return {
            "reference": self._reference,
            "best": self._best,
            "best_step": self._best_step,
            "evals_without_improvement": self._count,
            "answers": {
                key: [a.improved, a.should_stop, a.evals_without_improvement, a.best, a.best_step, a.new_best]
                for key, a in self._answers.items()
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly from `state_dict()`. Patience and threshold stay as configured now."""
        self._reference = state["reference"]
        self._best = state["best"]
        self._best_step = state["best_step"]
        self._count = int(state["evals_without_improvement"])
        self._answers = {key: EarlyStopDecision(*answer) for key, answer in state["answers"].items()}

    def _needed(self, reference: float) -> float:
        if self.relative is not None:
            return reference - self.relative * abs(reference)
        return reference - self.threshold

    def _decision(self, *, improved: bool, new_best: bool) -> EarlyStopDecision:
        return EarlyStopDecision(improved, self.stopped, self._count, self._best, self._best_step, new_best)
