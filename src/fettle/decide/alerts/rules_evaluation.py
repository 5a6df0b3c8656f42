"""Alerts about what evaluations say: the fixed evals, and those of `fettle eval --watch`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from fettle.decide.alerts.cures import stop_and_use_best
from fettle.decide.alerts.numbers import above, number
from fettle.decide.alerts.rule import Finding, Record, Rule
from fettle.decide.alerts.run_state import RunState
from fettle.runs.json_object import mapping

if TYPE_CHECKING:
    from fettle.config import AlertsConfig

EVAL = frozenset({"fixed_eval"})
CALIBRATION = "expected_calibration_error"


class PoorCalibration(Rule):
    """Confidence that says little about being right."""

    category = "poor_calibration"
    level = "warning"
    reads = EVAL

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._error = 0.0
        self._sure: float | None = None

    def judge(self, record: Record, run: RunState) -> bool | None:
        error = number(record, CALIBRATION)
        if error is None:
            return None
        self._error = error
        loss, entropy = number(record, "cross_entropy"), number(record, "entropy")
        self._sure = None if loss is None or entropy is None else loss - entropy
        return above(error, self.threshold, self.hysteresis)

    def finding(self, run: RunState) -> Finding:
        # Cross-entropy above entropy: the model expects to be right more often than it is.
        if self._sure is not None and self._sure < 0:
            how, cure = "less sure than it could be", "Further training often mends it."
        else:
            how, cure = "surer than it is right", "Train fewer epochs, or with a lower learning rate."
        return Finding(
            f"Expected calibration error {self._error:.3f} at step {run.step}: the model is {how}.",
            f"Do not rely on its probabilities. {cure}",
            {CALIBRATION: self._error, "cross_entropy_above_entropy": self._sure},
        )


class CalibrationDrift(Rule):
    """Calibration worse than it once was, however slowly it got there, and beyond what noise explains."""

    category = "calibration_drift"
    level = "warning"
    reads = EVAL

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._drift: Mapping[str, Any] = {}

    def judge(self, record: Record, run: RunState) -> bool | None:
        tested: Any = record.get("calibration_drift")
        if isinstance(tested, Mapping):
            self._drift = cast("Mapping[str, Any]", tested)
            return True
        error, best = number(record, CALIBRATION), number(self._drift, "best")
        if error is None or best is None:
            return None
        # A rise that cannot be told from noise is no end of the drift.
        return None if above(error, self.threshold * best, self.hysteresis) is not False else False

    def finding(self, run: RunState) -> Finding:
        step = self._drift.get("best_step")
        rate = run.peak_rate
        lower = f"learning_rate {rate / 2:.1e}, a half" if rate else "half the learning rate"
        return Finding(
            f"Calibration drifts: {self._drift.get('text')}.",
            f"The model grows over-confident. Go on with {lower}, or use a checkpoint near step {step}.",
            dict(self._drift),
            first_step=step if isinstance(step, int) else None,
        )


class ExactMatchPlateau(Rule):
    """Exact match no longer improves, and cross-entropy neither."""

    category = "em_plateau"
    level = "warning"
    reads = EVAL

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._text = ""
        self._since: int | None = None
        self._exact_match: float | None = None

    def judge(self, record: Record, run: RunState) -> bool | None:
        self._exact_match = number(record, "exact_match")
        if not self._exact_match:
            # Nothing right yet: flat at zero is a beginning, or a metric that does not fit.
            return None
        found = run.evals.exact_match(self.threshold)
        self._text, self._since = found.text, found.since_step
        if found.standing == "plateau":
            return None if run.evals.cross_entropy.standing == "improving" else True
        return None if found.standing == "undecided" else False

    def finding(self, run: RunState) -> Finding:
        return Finding(
            f"Exact match {100 * (self._exact_match or 0):.1f} % no longer improves: {self._text}.",
            stop_and_use_best(run),
            {"exact_match": self._exact_match, "trend": self._text, "best_checkpoint": run.best_checkpoint},
            first_step=self._since,
        )


class EvaluationRegression(Rule):
    """A checkpoint that is worse than one before it, on any file that checkpoints are evaluated on."""

    category = "evaluation_regression"
    level = "warning"
    reads = frozenset({"evaluation"})
    waits = False

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._regressed: dict[str, tuple[str, Mapping[str, Any]]] = {}
        """By file: the metric, and how it went."""

    def judge(self, record: Record, run: RunState) -> bool | None:
        data = str(record.get("data"))
        self._regressed.pop(data, None)
        trends = {name: mapping(found) for name, found in mapping(record.get("trend")).items()}
        cross_entropy = trends.pop("cross_entropy", {})
        exact_match = trends.pop("exact_match", {})
        # What checkers find right was asked for, and tells more than tokens.
        shares = {name.replace("_pass_rate", " pass rate"): found for name, found in trends.items()}
        shares["exact match"] = exact_match
        worse = next(((name, found) for name, found in shares.items() if self._is_worse(found)), None)
        if worse is not None:
            self._regressed[data] = worse
        elif self._is_worse(cross_entropy) and "improving" not in [t.get("state") for t in shares.values()]:
            # Less sure of more right answers is no loss.
            self._regressed[data] = "cross-entropy", cross_entropy
        return bool(self._regressed)

    def _is_worse(self, trend: Mapping[str, Any]) -> bool:
        return trend.get("state") == "regressing" and abs(number(trend, "effect") or 0.0) > self.threshold

    def finding(self, run: RunState) -> Finding:
        data, (metric, trend) = next(iter(self._regressed.items()))
        best = number(trend, "since_step")
        others = f", and on {len(self._regressed) - 1} more" if len(self._regressed) > 1 else ""
        use = (
            "the base model" if best == 0 else "an earlier one" if best is None else f"that of step {best:g}"
        )
        return Finding(
            f"The checkpoint of step {run.step} is worse on {data}{others}: {metric} is {trend.get('text')}.",
            f"Stop, unless {data} matters little. The checkpoint to use is {use}.",
            {"data": data, "metric": metric, "best_step": best}
            | {key: trend.get(key) for key in ("effect", "p_value", "samples")},
            first_step=None if best is None else int(best),
        )
