"""One alert, and one change of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fettle.runs.numbers import integer, number

Level = Literal["info", "warning", "critical"]
LEVELS: tuple[Level, ...] = ("info", "warning", "critical")
"""From the least to the most serious."""


@dataclass(slots=True)
class Alert:
    """Something a person should act on, with the numbers that say so."""

    category: str
    level: Level
    message: str
    """What is wrong, in one sentence."""
    action: str
    """What to do about it, with names and numbers."""
    evidence: dict[str, Any]
    threshold: float | None
    """What the evidence was held against; None where nothing has to be exceeded."""
    first_step: int | None
    """Step at which it began."""
    last_step: int | None
    """Last step at which it held."""
    resolved_step: int | None = None
    """Step at which it was over; None while it is active."""
    resolved: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class AlertChange:
    """What happened to an alert: it fired, became more serious, or is over."""

    change: Literal["fired", "escalated", "resolved"]
    step: int | None
    alert: Alert
    """As it was then."""

    def fields(self) -> dict[str, Any]:
        """Fields of an `alert` record of the event log."""
        return {"step": self.step, "change": self.change, **self.alert.to_json()}


def active_alerts(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The last `alert` record of each category that is not resolved, in the order of the log."""
    last: dict[str, Mapping[str, Any]] = {}
    for record in records:
        key = str(record.get("category") or record.get("message"))
        last.pop(key, None)
        last[key] = record
    return [record for record in last.values() if not record.get("resolved")]


def alert_episodes(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every alert there was, each as its last record left it: the open ones first, then the latest first."""
    episodes: list[dict[str, Any]] = []
    latest: dict[str, dict[str, Any]] = {}
    for record in records:
        key = str(record.get("category") or record.get("message"))
        known = latest.get(key)
        if known is None or known.get("resolved") or record.get("change") in (None, "fired"):
            known = latest[key] = {}
            episodes.append(known)
        known.update(record)
    episodes.reverse()
    return sorted(episodes, key=lambda alert: bool(alert.get("resolved")))


def told_alert(alert: Mapping[str, Any]) -> dict[str, Any]:
    """An alert as the page and the terminal tell it, also of a log that said `severity`, `recommendation`."""
    evidence: Any = alert.get("evidence") or alert.get("details")
    return {
        "category": alert.get("category"),
        "severity": alert.get("level") or alert.get("severity"),
        "message": alert.get("message"),
        "recommendation": alert.get("action") or alert.get("recommendation"),
        "evidence": evidence if isinstance(evidence, dict) else {},
        "threshold": number(alert.get("threshold")),
        **{key: integer(alert.get(key)) for key in ("first_step", "last_step", "resolved_step")},
        "resolved": bool(alert.get("resolved")),
    }
