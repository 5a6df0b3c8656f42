"""Alerts about checkpoints and the disk they lie on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fettle.decide.alerts.numbers import below, number
from fettle.decide.alerts.rule import Finding, Record, Rule
from fettle.decide.alerts.run_state import RunState

if TYPE_CHECKING:
    from fettle.config import AlertsConfig


class CheckpointWithoutEvaluation(Rule):
    """Checkpoints nothing is known of."""

    category = "checkpoint_without_evaluation"
    level = "info"
    reads = frozenset({"checkpoint"})

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._count = 0

    def judge(self, record: Record, run: RunState) -> bool | None:
        known = number(record, "cross_entropy") is not None or number(record, "exact_match") is not None
        self._count = 0 if known else self._count + 1
        return self._count >= self.threshold or (False if known else None)

    def finding(self, run: RunState) -> Finding:
        save_there = "Make checkpoint_interval_steps a multiple of eval_interval_steps."
        return Finding(
            f"{run.last_checkpoint} was saved without a fixed eval: it cannot be compared with others.",
            save_there if run.evals.evals else "Name held-out chats in data.fixed_eval.",
            {"checkpoint": run.last_checkpoint, "in_a_row": self._count},
        )


class WriteFailed(Rule):
    """Files of the run that could not be written."""

    category = "write_failed"
    level = "warning"
    reads = frozenset({"write_failed", "fixed_eval", "checkpoint"})

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._count = 0
        self._step: int | None = None
        self._what = self._error = ""

    def judge(self, record: Record, run: RunState) -> bool | None:
        if record.get("type") == "write_failed":
            self._count, self._step = self._count + 1, run.step
            self._what, self._error = str(record.get("what")), str(record.get("error"))
            return True if self._count >= self.threshold else None
        if run.step == self._step:
            return None
        self._count = 0
        return False

    def finding(self, run: RunState) -> Finding:
        return Finding(
            f"{self._what}: {self._error}.",
            "Make room on the disk, or give the folder back its rights; training goes on.",
            {"what": self._what, "error": self._error},
        )


class DiskNearlyFull(Rule):
    """Little room left for the next checkpoint."""

    category = "disk_nearly_full"
    level = "warning"
    reads = frozenset({"start", "checkpoint", "fixed_eval"})

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._free = 0.0
        self._checkpoint = 0.0

    def judge(self, record: Record, run: RunState) -> bool | None:
        self._checkpoint = number(record, "size_bytes") or self._checkpoint
        free = number(record, "disk_free_bytes")
        if free is None:
            return None
        self._free = free
        # A checkpoint is written aside while the one before it still stands.
        return below(free, max(self.threshold, 2 * self._checkpoint), self.hysteresis)

    def finding(self, run: RunState) -> Finding:
        kept = dict.fromkeys(name for name in (run.best_checkpoint, run.last_checkpoint) if name)
        keep = f", but keep {' and '.join(kept)}" if kept else ""
        size = f"; a checkpoint takes {self._checkpoint / 1e9:.2f} GB" if self._checkpoint else ""
        return Finding(
            f"{self._free / 1e9:.2f} GB are left on the disk of the run{size}.",
            f"Make room: move old checkpoints elsewhere{keep}.",
            {"disk_free_bytes": self._free, "checkpoint_bytes": self._checkpoint or None},
        )
