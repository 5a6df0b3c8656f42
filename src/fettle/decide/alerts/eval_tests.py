"""What the samples of a fixed eval say beside those before it, put into its record when it is logged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fettle.decide.alerts.eval_history import forgotten
from fettle.decide.alerts.numbers import number
from fettle.decide.calibration import DRIFT_RATIO, calibration_drift
from fettle.decide.trend import DEFAULT_MARGIN, trend
from fettle.runs.records import FixedEval, SampleResults

if TYPE_CHECKING:
    from fettle.config import AlertsConfig


class EvalTests:
    """Paired tests of each eval against the evals before it.

    The log then holds all that alerts need, and replaying it asks for no other file.
    """

    def __init__(self, thresholds: AlertsConfig) -> None:
        self._margin = thresholds.em_plateau or DEFAULT_MARGIN["exact_match"]
        self._ratio = thresholds.calibration_drift or DRIFT_RATIO
        self._evals: list[FixedEval] = []

    def remember(self, step: int, numbers: Mapping[str, Any], samples: SampleResults) -> None:
        """Take in an eval; those of the same or a later step no longer count."""
        self._evals = [e for e in self._evals if e.step < step]
        self._evals.append(
            FixedEval(
                step=step,
                cross_entropy=number(numbers, "cross_entropy"),
                exact_match=number(numbers, "exact_match"),
                expected_calibration_error=number(numbers, "expected_calibration_error"),
                per_sample=samples,
            )
        )
        oldest = forgotten(self._evals)
        if oldest is not None:
            del self._evals[oldest]

    def fields(self) -> dict[str, Any]:
        """Of the `fixed_eval` record of the eval taken in last; `calibration_drift` is None without one."""
        drift = calibration_drift(self._evals, ratio=self._ratio)
        return {
            "exact_match_trend": trend(self._evals, "exact_match", margin=self._margin).to_json(),
            "cross_entropy_trend": trend(self._evals, "cross_entropy").to_json(),
            "calibration_drift": None if drift is None else drift.to_json(),
        }
