"""Smart alerts: a pure function of the event log."""

from fettle.decide.alerts.alert import (
    LEVELS,
    Alert,
    AlertChange,
    Level,
    active_alerts,
    alert_episodes,
    told_alert,
)
from fettle.decide.alerts.catalogue import CATALOGUE, Kind
from fettle.decide.alerts.cures import restart_lower
from fettle.decide.alerts.engine import (
    AlertEngine,
    evaluation_regression,
    replay,
    replayed,
    stalled_run,
)
from fettle.decide.alerts.eval_tests import EvalTests
from fettle.decide.alerts.rules_evaluation import EvaluationRegression
from fettle.decide.alerts.rules_stalled import StalledRun

__all__ = [
    "CATALOGUE",
    "LEVELS",
    "Alert",
    "AlertChange",
    "AlertEngine",
    "EvalTests",
    "EvaluationRegression",
    "Kind",
    "Level",
    "StalledRun",
    "active_alerts",
    "alert_episodes",
    "evaluation_regression",
    "replay",
    "replayed",
    "restart_lower",
    "stalled_run",
    "told_alert",
]
