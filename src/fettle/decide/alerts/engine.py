"""Alerts as a function of the event log: records in, changes of alerts out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from fettle.decide.alerts.alert import LEVELS, Alert, AlertChange
from fettle.decide.alerts.catalogue import CATALOGUE
from fettle.decide.alerts.rule import Rule
from fettle.decide.alerts.rules_evaluation import EvaluationRegression
from fettle.decide.alerts.rules_stalled import StalledRun
from fettle.decide.alerts.run_state import RunState
from fettle.runs.superseded import standing_records

if TYPE_CHECKING:
    from fettle.config import AlertsConfig

HISTORY = 100
"""Alerts remembered, active ones among them."""
MOST_DOUBLINGS = 20


@dataclass(slots=True)
class Slot:
    """The place of one category: at most one alert in it is active."""

    rule: Rule
    active: Alert | None = None
    times: int = 0
    """How often it was resolved."""
    quiet_until: int = -1


class AlertEngine:
    """Feeds records to every rule that is on and turns their judgements into alerts.

    One alert is active per category. It is resolved once its rule says so (see `hysteresis`), and
    then stays quiet for `cooldown_steps`, twice as long each time it comes back. Nothing but the
    records decides: no clock, no file. Feed only records that still count; where a resume supersedes
    some, `replay` them with a new engine.
    """

    def __init__(self, thresholds: AlertsConfig | None = None, only: Iterable[str] | None = None) -> None:
        """`only` names the categories to look for, where not all are wanted."""
        if thresholds is None:
            from fettle.config import AlertsConfig

            thresholds = AlertsConfig()
        self._cooldown = thresholds.cooldown_steps
        self._run = RunState()
        self._history: list[Alert] = []
        wanted = [kind for kind in CATALOGUE if only is None or kind.category in only]
        on = ((kind.rule, getattr(thresholds, kind.category)) for kind in wanted)
        slots = [Slot(rule(threshold, thresholds)) for rule, threshold in on if threshold is not None]
        self._slots: dict[str, list[Slot]] = {}
        for slot in slots:
            for type in slot.rule.reads:
                self._slots.setdefault(type, []).append(slot)
        self._stall = next((slot for slot in slots if isinstance(slot.rule, StalledRun)), None)

    @property
    def alerts(self) -> list[Alert]:
        """The last alerts, in the order they fired; at most 100."""
        return list(self._history)

    @property
    def active(self) -> list[Alert]:
        """Those that are not resolved, in the order they fired."""
        return [alert for alert in self._history if not alert.resolved]

    def feed(self, record: Mapping[str, Any]) -> list[AlertChange]:
        """Take in the next record; what it changes."""
        type: Any = record.get("type")
        changes: list[AlertChange] = []
        run = self._run
        run.observe(type, record)
        for slot in self._slots.get(type, ()):
            verdict = slot.rule.judge(record, run)
            if verdict is None:
                continue
            if verdict:
                changes += self._holds(slot)
            elif slot.active is not None:
                changes.append(self._resolve(slot))
        return changes

    def tick(self, now: float) -> list[AlertChange]:
        """What the time (Unix seconds) alone changes: a run that should have said something by now.

        For readers of a run: what trains cannot tell that it hangs.
        """
        slot = self._stall
        if slot is None or slot.active is not None:
            return []
        assert isinstance(slot.rule, StalledRun)
        return self._holds(slot) if slot.rule.overdue(now) else []

    def _holds(self, slot: Slot) -> list[AlertChange]:
        step, alert, rule = self._run.step, slot.active, slot.rule
        if alert is None:
            return [] if step is not None and step < slot.quiet_until else [self._fire(slot)]
        alert.last_step = step
        if LEVELS.index(rule.level) <= LEVELS.index(alert.level):
            return []
        finding = rule.finding(self._run)
        alert.level, alert.message, alert.evidence = rule.level, finding.message, finding.evidence
        return [self._change("escalated", alert)]

    def _fire(self, slot: Slot) -> AlertChange:
        rule, step = slot.rule, self._run.step
        finding = rule.finding(self._run)
        slot.active = Alert(
            category=rule.category,
            level=rule.level,
            message=finding.message,
            action=finding.action,
            evidence=finding.evidence,
            threshold=rule.threshold,
            first_step=step if finding.first_step is None else finding.first_step,
            last_step=step,
        )
        self._remember(slot.active)
        return self._change("fired", slot.active)

    def _resolve(self, slot: Slot) -> AlertChange:
        alert, step = slot.active, self._run.step
        assert alert is not None
        alert.resolved, alert.resolved_step = True, step
        slot.active = None
        if slot.rule.waits and step is not None:
            slot.quiet_until = step + self._cooldown * 2 ** min(slot.times, MOST_DOUBLINGS)
        slot.times += 1
        return self._change("resolved", alert)

    def _remember(self, alert: Alert) -> None:
        self._history.append(alert)
        if len(self._history) > HISTORY:
            # There are fewer categories than places: one of them is resolved.
            oldest = next(i for i, known in enumerate(self._history) if known.resolved)
            del self._history[oldest]

    def _change(self, change: Literal["fired", "escalated", "resolved"], alert: Alert) -> AlertChange:
        return AlertChange(change, self._run.step, replace(alert, evidence=dict(alert.evidence)))


def replayed(
    records: Iterable[dict[str, Any]], thresholds: AlertsConfig | None = None
) -> tuple[AlertEngine, list[AlertChange]]:
    """An engine that has seen a whole log, superseded rows left out, and every change on the way."""
    engine = AlertEngine(thresholds)
    changes = [change for record in standing_records(records) for change in engine.feed(record)]
    return engine, changes


def replay(records: Iterable[dict[str, Any]], thresholds: AlertsConfig | None = None) -> list[Alert]:
    """The alerts of a whole log, as they stood live."""
    return replayed(records, thresholds)[0].alerts


def stalled_run(
    records: Iterable[Mapping[str, Any]], now: float, thresholds: AlertsConfig | None = None
) -> AlertChange | None:
    """Whether a run whose last records these are should have said something by `now` (Unix seconds)."""
    engine = AlertEngine(thresholds, only=(StalledRun.category,))
    for record in records:
        engine.feed(record)
    return next(iter(engine.tick(now)), None)


def evaluation_regression(
    rows: Iterable[Mapping[str, Any]], thresholds: AlertsConfig | None = None
) -> AlertChange | None:
    """Whether, after these rows of `fettle eval --watch`, the newest checkpoint is worse than one before."""
    engine = AlertEngine(thresholds, only=(EvaluationRegression.category,))
    for row in rows:
        engine.feed(row)
    return next((AlertChange("fired", alert.last_step, alert) for alert in engine.active), None)
