"""Alerts about the data a run is judged on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from fettle.decide.alerts.numbers import number
from fettle.decide.alerts.rule import Finding, Record, Rule
from fettle.decide.alerts.run_state import RunState

if TYPE_CHECKING:
    from fettle.config import AlertsConfig


class Leakage(Rule):
    """Held-out examples that stand in the training data."""

    category = "leakage"
    level = "warning"
    reads = frozenset({"start"})

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._found: dict[str, float] = {}

    def judge(self, record: Record, run: RunState) -> bool | None:
        told: Any = record.get("leakage")
        if not isinstance(told, Mapping):
            return None
        fields = cast("Mapping[str, Any]", told)
        samples = number(fields, "samples")
        if not samples:
            return None
        exact, near = number(fields, "exact") or 0.0, number(fields, "near") or 0.0
        self._found = {"exact": exact, "near": near, "samples": samples, "share": (exact + near) / samples}
        return self._found["share"] > self.threshold

    def finding(self, run: RunState) -> Finding:
        found = self._found
        return Finding(
            f"{found['exact']:.0f} of {found['samples']:.0f} held-out examples stand in the training data "
            f"and {found['near']:.0f} more nearly do: exact match and loss on them measure memory.",
            "Take them out of one of the two sets and train again.",
            dict(found),
        )
