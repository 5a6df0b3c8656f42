"""Alerts about time and memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fettle.decide.alerts.alert import Level
from fettle.decide.alerts.numbers import below, number
from fettle.decide.alerts.rule import Finding, Record, Rule
from fettle.decide.alerts.run_state import RunState

if TYPE_CHECKING:
    from fettle.config import AlertsConfig

SMOOTHING = 0.1
"""Weight of the newest step in an exponential mean of speed."""


class ThroughputDrop(Rule):
    """Tokens per second far below what this start began with."""

    category = "throughput_drop"
    level = "warning"
    reads = frozenset({"train", "start"})

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._begin()

    def _begin(self) -> None:
        self._steps = 0
        self._sum = self._baseline = self._smoothed = 0.0

    def judge(self, record: Record, run: RunState) -> bool | None:
        if record.get("type") == "start":
            # Another start may be another machine: it has a baseline of its own.
            self._begin()
            return None
        speed = number(record, "tokens_per_sec")
        if speed is None:
            return None
        steps = self.config.throughput_baseline_steps
        self._steps += 1
        if self._steps <= steps:
            # The first steps compile and warm caches; the second half counts.
            if self._steps > steps // 2:
                self._sum += speed
                self._smoothed = self._baseline = self._sum / (self._steps - steps // 2)
            return None
        self._smoothed += SMOOTHING * (speed - self._smoothed)
        return below(self._smoothed, self.threshold * self._baseline, self.hysteresis)

    def finding(self, run: RunState) -> Finding:
        share = self._smoothed / self._baseline
        return Finding(
            f"{self._smoothed:.0f} tokens/s at step {run.step}, {share:.0%} of the {self._baseline:.0f} this "
            "start began with.",
            "See what else runs on the machine, its temperature and power limit, and whether examples grew "
            "longer.",
            {"tokens_per_sec": self._smoothed, "baseline": self._baseline, "share": share},
        )


class LowVramUtilization(Rule):
    """GPU memory that stays unused."""

    category = "low_vram_utilization"
    level: Level = "info"
    reads = frozenset({"system"})

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._since: int | None = None
        self._steps = 0
        self._share = 0.0

    def judge(self, record: Record, run: RunState) -> bool | None:
        used, total, step = number(record, "gpu_memory_used"), number(record, "gpu_memory_total"), run.step
        if used is None or not total or step is None:
            return None
        self._share = used / total
        verdict = below(self._share, self.threshold, self.hysteresis)
        if not verdict:
            self._since = None
            return verdict
        if self._since is None or step < self._since:
            self._since = step
        self._steps = step - self._since
        self.level = "warning" if self._share < self.config.low_vram_warning else "info"
        return True if self._steps >= self.config.low_vram_steps else None

    def finding(self, run: RunState) -> Finding:
        return Finding(
            f"Only {self._share:.0%} of the GPU's memory is used, for {self._steps} steps.",
            "Raise batch_size and lower gradient_accumulation_steps by the same factor: the same steps, "
            "faster.",
            {"share": self._share, "steps": self._steps},
        )
