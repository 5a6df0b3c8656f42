"""What is recorded, and the alerts that follow from it: logged, printed and sent on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loguru import logger

from fettle.config import AlertsConfig
from fettle.decide.alerts import AlertChange, AlertEngine, EvalTests, replayed
from fettle.metrics import summarise_samples
from fettle.runs import EventLog, LogFollower, RunFolder, load_samples
from fettle.runs.records import SampleResults
from fettle.runs.superseded import standing_records
from fettle.train.notifier import Notifier


class AlertLog:
    """Appends records to the event log and feeds each to the alerts; their changes are records too."""

    def __init__(
        self,
        folder: RunFolder,
        log: EventLog,
        thresholds: AlertsConfig | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self._folder = folder
        self._log = log
        self._thresholds = thresholds or AlertsConfig()
        self._notifier = notifier
        self._engine: AlertEngine | None = AlertEngine(self._thresholds)
        self._tests = EvalTests(self._thresholds)

    def append(self, type: str, fields: Mapping[str, Any]) -> bool:
        """Log one record; whether an alert changed by it."""
        self._log.append(type, fields)
        if self._engine is None:
            return False
        try:
            changes = self._engine.feed({"type": type, **fields})
        except Exception:  # noqa: BLE001 - a defect of ours must not end somebody's training
            self._engine = None
            logger.exception("alerts are off from here on: a rule failed on a {} record", type)
            return False
        for change in changes:
            self._tell(change)
        return bool(changes)

    def tested(self, step: int, samples: SampleResults) -> dict[str, Any]:
        """Numbers of a fixed eval, and the tests of it against those before."""
        numbers = summarise_samples(samples)
        self._tests.remember(step, numbers, samples)
        return {**numbers, **self._tests.fields()}

    def rewind(self) -> None:
        """After a `resume` record: alerts stand as the records that still count left them."""
        records = LogFollower(self._folder.metrics_path).poll()
        self._engine, _ = replayed(records, self._thresholds)
        self._tests = EvalTests(self._thresholds)
        for record in standing_records(records):
            if record.get("type") != "fixed_eval" or not isinstance(record.get("step"), int):
                continue
            samples = load_samples(self._folder.fixed_eval_path, record["step"])
            if samples is not None:
                self._tests.remember(record["step"], record, samples)

    @property
    def active(self) -> list[dict[str, Any]]:
        """Alerts that are not resolved, for status.json."""
        alerts = self._engine.active if self._engine else []
        return [alert.to_json() for alert in alerts]

    def close(self) -> None:
        """Give notifications on their way a last chance."""
        if self._notifier is not None:
            self._notifier.close()

    def _tell(self, change: AlertChange) -> None:
        fields = change.fields()
        self._log.append("alert", fields)
        alert = change.alert
        if change.change == "resolved":
            logger.info("resolved at step {}: {}", change.step, alert.category.replace("_", " "))
        else:
            logger.log(alert.level.upper(), "{} {}", alert.message, alert.action)
        if self._notifier is not None:
            self._notifier.send({"run": self._folder.path.name, **fields})
