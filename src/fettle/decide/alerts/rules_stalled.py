"""The alert about a run that says nothing any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fettle.decide.alerts.numbers import number
from fettle.decide.alerts.rule import Finding, Record, Rule
from fettle.decide.alerts.run_state import RunState

if TYPE_CHECKING:
    from fettle.config import AlertsConfig

NO_WORK = ("start", "resume", "control", "end")
"""What comes before these took no time of training: a pause, or a trainer that was away."""

SMOOTHING = 0.1
"""Weight of the newest gap in the usual time of a step."""


class StalledRun(Rule):
    """No event for far longer than a step takes."""

    category = "stalled_run"
    level = "warning"
    # Any event shows that the run lives.
    reads = frozenset(
        {"train", "fixed_eval", "checkpoint", "start", "resume", "end", "layers", "system", "control"}
    )

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._last: float | None = None
        self._last_type = ""
        self._usual: float | None = None
        self._slowest = 0.0
        self._silence = 0.0

    def judge(self, record: Record, run: RunState) -> bool | None:
        now, type = number(record, "timestamp"), str(record.get("type"))
        if now is not None:
            self._learn(now, type)
        return False

    def _learn(self, now: float, type: str) -> None:
        gap = None if self._last is None or self._last_type in ("start", "resume") else now - self._last
        if gap is not None and gap >= 0 and type not in NO_WORK:
            if type != "train":
                self._slowest = max(self._slowest, gap)
            elif self._last_type == "train":
                usual = gap if self._usual is None else self._usual
                self._usual = usual + SMOOTHING * (gap - usual)
        self._last, self._last_type = now, type

    @property
    def limit(self) -> float | None:
        """Seconds without an event that are no accident any more; None before two steps were seen."""
        if self._usual is None:
            return None
        # Evals and checkpoints take their time: twice the slowest so far is still theirs.
        return max(self.threshold * self._usual, 2 * self._slowest, self.config.stalled_run_seconds)

    def overdue(self, now: float) -> bool:
        """Whether the next event should have come by `now`."""
        limit = self.limit
        if self._last is None or limit is None or self._last_type in ("end", "resume", "start"):
            return False
        self._silence = now - self._last
        return self._silence > limit

    def finding(self, run: RunState) -> Finding:
        limit, usual = self.limit or 0.0, self._usual or 0.0
        return Finding(
            f"No event for {self._silence:.0f} seconds after step {run.step}; "
            f"a step usually takes {usual:.2g}.",
            "Look at logs/train.log and at the process. If it hangs, stop it: the same command goes on "
            f"from {run.last_checkpoint or 'the start, for no checkpoint was saved yet'}.",
            {
                "seconds": self._silence,
                "limit_seconds": limit,
                "usual_step_seconds": usual,
                "last_event": self._last_type,
            },
        )
