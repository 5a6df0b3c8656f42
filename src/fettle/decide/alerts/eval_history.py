"""Fixed evals and the train loss between them, condensed so that judging one costs the same at any step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.decide.alerts.numbers import number
from fettle.decide.alerts.tested_trend import tested_trend
from fettle.decide.comparability import Comparability, loss_comparability, train_loss_at
from fettle.decide.overfitting import Overfitting, overfitting
from fettle.decide.trend import Trend, trend
from fettle.runs.records import FixedEval

EVALS = 32
"""Evals looked back on, the best ones not counted."""


class EvalHistory:
    """The last evals, the best ones, and one train row per eval."""

    def __init__(self) -> None:
        self._evals: list[tuple[FixedEval, dict[str, float]]] = []
        self._record: Mapping[str, Any] = {}
        self._loss = 0.0
        self._weight = 0.0
        self._sums_known = True
        self._rows = 0
        self.comparability: Comparability = loss_comparability({}, [])
        """Whether train loss and held-out loss are the same quantity."""
        self.cross_entropy: Trend = trend([], "cross_entropy")
        """Of the held-out loss."""
        self.overfitting: Overfitting | None = None
        self.train_loss: float | None = None
        """Mean train loss up to the last eval from the one before."""

    def add_train(self, loss: float, record: Mapping[str, Any]) -> None:
        """One train record with a finite loss."""
        tokens = number(record, "completion_tokens") or 0.0
        self._sums_known = self._sums_known and tokens > 0 and record.get("loss_sum") is not None
        weight = tokens if tokens > 0 else 1.0
        self._loss += loss * weight
        self._weight += weight
        self._rows += 1

    def add_eval(self, step: int, record: Mapping[str, Any]) -> None:
        """One fixed eval; the train records since the last one become one row."""
        measured = FixedEval(
            step=step,
            cross_entropy=number(record, "cross_entropy"),
            exact_match=number(record, "exact_match"),
            expected_calibration_error=number(record, "expected_calibration_error"),
        )
        self._evals.append((measured, self._train_row(step)))
        self._record = record
        oldest = forgotten(self.evals)
        if oldest is not None:
            del self._evals[oldest]
        evals, train = self.evals, self._columns()
        self.comparability = loss_comparability(train, evals)
        self.cross_entropy = tested_trend(record, "cross_entropy") or trend(evals, "cross_entropy")
        self.overfitting = overfitting(evals, train, self.cross_entropy)
        self.train_loss = train_loss_at(train, step, evals)

    def exact_match(self, margin: float) -> Trend:
        """Of exact match: as the trainer tested it on the samples, else read from the numbers."""
        return tested_trend(self._record, "exact_match") or trend(self.evals, "exact_match", margin=margin)

    @property
    def evals(self) -> list[FixedEval]:
        """In the order they came."""
        return [e for e, _ in self._evals]

    def _train_row(self, step: int) -> dict[str, float]:
        row = {"step": float(step), "loss": self._loss / self._weight} if self._rows else {}
        if self._rows and self._sums_known:
            row |= {"loss_sum": self._loss, "completion_tokens": self._weight}
        self._loss = self._weight = 0.0
        self._rows, self._sums_known = 0, True
        return row

    def _columns(self) -> dict[str, NDArray[np.float64]]:
        """Train loss as columns: its mean by tokens up to each eval from the one before."""
        rows = [row for _, row in self._evals if row]
        if not rows:
            return {}
        names = set(rows[0]).intersection(*rows)
        return {name: np.array([row[name] for row in rows]) for name in names}


def forgotten(evals: Sequence[FixedEval], most: int = EVALS) -> int | None:
    """Which of too many evals to drop: the oldest that is not the best by any measure; None below `most`."""
    if len(evals) <= most:
        return None
    best = {
        max(evals, key=lambda e: -1.0 if e.exact_match is None else e.exact_match).step,
        min(evals, key=lambda e: np.inf if e.cross_entropy is None else e.cross_entropy).step,
        min(
            evals,
            key=lambda e: np.inf if e.expected_calibration_error is None else e.expected_calibration_error,
        ).step,
    }
    return next(i for i, e in enumerate(evals) if e.step not in best)
