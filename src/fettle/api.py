"""The public face for programs: open a run, read its columns, ask for its verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import time
from typing import Any, cast

from fettle.config import AlertsConfig, check_section
from fettle.decide import Evidence, Verdict, verdict
from fettle.decide.alerts import StalledRun, active_alerts, stalled_run
from fettle.runs import RunReader

LATEST = 1000
"""Records that tell the usual time of a step."""


class Run(RunReader):
    """Any run on disk: fettle's, or that of another tool (see docs/other-tools.md)."""

    def evidence(self) -> Evidence:
        """Everything the verdict looks at."""
        stops, layers = self.records("early_stop"), self.layers()
        return Evidence(
            name=self.name,
            state=self.state(),
            evals=self.evals(),
            checkpoints=self.checkpoints(),
            train=self.columns("train"),
            early_stop=stops[-1] if stops else None,
            alerts=self.alerts(),
            config=self.config(),
            metadata=self.metadata(),
            layers=layers[-1] if layers else None,
        )

    def alerts(self, now: float | None = None) -> list[Mapping[str, Any]]:
        """Alerts that are not resolved: those its trainer logged, and `stalled_run` by the time `now`.

        `now` is Unix time, by default the clock's. Only a run whose trainer lives can stall.
        """
        found = active_alerts(self.records("alert"))
        if self.state() != "running":
            return found
        stalled = stalled_run(self._latest(), time() if now is None else now, self._thresholds())
        return found if stalled is None else [*found, stalled.fields()]

    def _latest(self) -> list[dict[str, Any]]:
        """The last records that show a living trainer, in order of time."""
        rows = [r for type in StalledRun.reads for r in self.records(type, last=LATEST)]
        timed = [r for r in rows if isinstance(r.get("timestamp"), float)]
        return sorted(timed, key=lambda r: r["timestamp"])[-LATEST:]

    def _thresholds(self) -> AlertsConfig:
        """Those of its config.yaml, in which a callback has its settings below `fettle`."""
        config = self.config() or {}
        values: Any = config.get("fettle", config)
        section = cast("dict[str, Any]", values).get("alerts") if isinstance(values, dict) else None
        return check_section(AlertsConfig, section, f"{self.path}/config.yaml [alerts]")

    def verdict(self) -> Verdict:
        """Stop or go on, which checkpoint, and why."""
        judged = verdict(self.evidence())
        unread = [f"Not all was read: {problem}." for problem in self.problems]
        return replace(judged, warnings=[*judged.warnings, *unread])


def open_run(path: str | Path, columns: str | Path | None = None) -> Run:
    """Open a run for reading; `columns` maps the column names of another tool's log.

    Raises RunError where `path` holds no run.
    """
    return Run(Path(path), None if columns is None else Path(columns))
