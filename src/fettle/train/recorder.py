"""Events of any training loop, turned into the run folder."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

from loguru import logger

from fettle.config import AlertsConfig
from fettle.config.patterns import LENGTH_BINS
from fettle.decide.early_stop import EarlyStopping
from fettle.decide.score import checkpoint_score, incomparable
from fettle.metrics import Throughput, layer_activity_summary, layer_rows, summarise_patterns
from fettle.runs import EventLog, RowLog, RunFolder, save_samples, write_checkpoint
from fettle.runs.checkpoints import folder_size
from fettle.runs.control import ControlRequest
from fettle.runs.records import LayerActivity, SampleResults, State
from fettle.train.alert_log import AlertLog
from fettle.train.bill import Bill
from fettle.train.counters import Counters
from fettle.train.host import HostMeter, training_gpu
from fettle.train.live_status import LiveStatus
from fettle.train.notifier import Notifier


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one fixed eval means for the run."""

    fields: dict[str, Any]
    """The numbers as they stand in the log."""
    improved: bool | None
    """Whether cross-entropy beat the best before it; None when there was none to beat."""
    new_best: bool
    """Whether this is the best step so far by cross-entropy or by exact match: keep it on disk."""
    should_stop: bool
    evals_without_improvement: int


class Recorder:
    """Writes metrics.jsonl, status.json, per-sample results and checkpoints of one run.

    Logging never raises and never waits for the disk to sync: what could not be
    written is counted and shown. A checkpoint that cannot be written does raise.
    """

    incomparable_because: str | None = None
    """Why train loss and eval loss of this run cannot be set against each other, once that is known."""

    def __init__(
        self,
        folder: RunFolder,
        *,
        early_stopping: EarlyStopping,
        total_steps: int | None = None,
        length_bins: Sequence[int] = LENGTH_BINS,
        alerts: AlertsConfig | None = None,
        notifier: Notifier | None = None,
        bill: Bill | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.folder = folder
        self.early_stopping = early_stopping
        self.total_steps = total_steps
        self.length_bins = length_bins
        self.last_checkpoint: Path | None = None
        self.last_step = 0
        """The last step that was recorded, or that the resumed checkpoint contains."""
        self.finite = True
        """Whether the loss of the last step was a number."""
        self._bill = bill
        self._clock = clock
        self._log = EventLog(folder.metrics_path)
        self._predictions = RowLog(folder.predictions_path, "prediction")
        self._alerts = AlertLog(folder, self._log, alerts, notifier)
        self._counters = Counters()
        self._throughput = Throughput()
        self._host = HostMeter(training_gpu())
        self._judgement: tuple[int, Judgement, float | None] | None = None
        self._monitor_seconds = 0.0
        self._train_seconds = 0.0
        self._monitor_total = 0.0
        self._status = LiveStatus(folder, clock)
        self._paused_at: float | None = None

    # -- events ---------------------------------------------------------------

    def start(self, **fields: Any) -> None:
        """The run begins or goes on; `fields` go into the record."""
        last = self.last_checkpoint
        known = {
            "total_steps": self.total_steps,
            "checkpoint": None if last is None else last.name,
            "disk_free_bytes": self._disk_free(),
        }
        self._append("start", {**known, **fields})
        self._update_status(force=True, total_steps=self.total_steps)

    def resume(self, step: int) -> None:
        """Rows after `step` are superseded from here on."""
        self._log.append("resume", {"step": step})
        self._predictions.resume(step)
        self._alerts.rewind()
        self.last_step = step
        self._update_status(force=True, step=step, active_alerts=self._alerts.active)

    def step(
        self,
        step: int,
        *,
        loss_sum: float,
        completion_tokens: int,
        tokens: int,
        learning_rate: float | None = None,
        grad_norm: float | None = None,
        epoch: float | None = None,
        seconds: float | None = None,
        skipped: bool = False,
    ) -> None:
        """One optimizer step: loss in nats summed over `completion_tokens`, wall time in seconds.

        `skipped` says that a loss scaler met an overflow and changed nothing, as it does now and then.
        """
        started = self._clock()
        loss = loss_sum / completion_tokens
        self.last_step, self.finite = step, isfinite(loss)
        self._counters.step(loss_sum, completion_tokens, tokens)
        self._throughput.step(tokens=tokens, completion_tokens=completion_tokens, seconds=seconds)
        fields = {
            "step": step,
            "epoch": epoch,
            "loss": loss,
            "loss_sum": loss_sum,
            "completion_tokens": completion_tokens,
            "tokens": tokens,
            "learning_rate": learning_rate,
            "grad_norm": grad_norm,
            "tokens_per_sec": tokens / seconds if seconds else None,
            "completion_tokens_per_sec": completion_tokens / seconds if seconds else None,
            "step_time": seconds,
            "monitor_time": self._monitor_seconds,
            "streaming_ce": self._counters.streaming_ce,
            **self._billed(),
        }
        if skipped:
            fields["skipped"] = True
        self._append("train", fields)
        self._train_seconds += seconds or 0.0
        live = self._speed()
        machine = self._host.due()
        if machine is not None:
            self._append("system", {"step": step, **machine})
            live["system"] = dict(machine)
        self._update_status(
            step=step,
            epoch=epoch,
            loss=loss if isfinite(loss) else None,
            streaming_ce=self._counters.streaming_ce,
            learning_rate=learning_rate,
            eta_seconds=self._eta(step),
            **live,
        )
        self._monitor_seconds = self._clock() - started
        self._monitor_total += self._monitor_seconds
        self.stepped(step)

    def stepped(self, step: int) -> None:
        """Called once a step is recorded; its time is nobody's."""

    def evaluation(
        self, step: int, samples: SampleResults, *, epoch: float | None = None, seconds: float | None = None
    ) -> Judgement:
        """One fixed eval of the weights after `step`; counted once however often it is told."""
        if self._judgement is not None and self._judgement[0] == step:
            return self._judgement[1]
        train_loss = self._counters.train_loss()
        numbers = self._alerts.tested(step, samples)
        try:
            save_samples(self.folder.fixed_eval_path, step, samples)
        except OSError as error:
            # The summary still goes into the log; paired tests of a reader will lack this eval.
            self.write_failed(step, f"Per-sample results of step {step} could not be written", error)
        fields = {
            "step": step,
            "epoch": epoch,
            "eval_id": f"fixed_eval:{step}",
            "seconds": seconds,
            "disk_free_bytes": self._disk_free(),
            **self._billed(),
            **numbers,
        }
        self._append("fixed_eval", {**fields, "patterns": summarise_patterns(samples, self.length_bins)})
        judgement = self._judge(step, numbers)
        self._judgement = (step, judgement, train_loss)
        self._update_status(force=True, fixed_eval=fields, best_step=self.early_stopping.best_step)
        if judgement.should_stop:
            self._append(
                "early_stop",
                {
                    "step": step,
                    "best_step": self.early_stopping.best_step,
                    "best": self.early_stopping.best,
                    "evals_without_improvement": judgement.evals_without_improvement,
                },
            )
        return judgement

    def layers(self, activity: LayerActivity) -> None:
        """How far each layer has moved, and its gradient norm."""
        fields = {
            "step": activity.step,
            "method": activity.method,
            "since_step": activity.since_step,
            "seconds": activity.seconds,
            "rows": layer_rows(activity.groups),
        }
        self._append("layers", fields)
        self._monitor_seconds += activity.seconds or 0.0
        self._monitor_total += activity.seconds or 0.0
        self._update_status(layer_activity_summary=layer_activity_summary(activity.groups))

    def lenses(self, step: int, read: Mapping[str, Any]) -> None:
        """What lenses made of the weights after `step`: how many moved, which ones most."""
        self._append("lenses", {"step": step, **read})

    def predictions(
        self, step: int, rows: Sequence[Mapping[str, Any]], *, epoch: float | None = None
    ) -> None:
        """Answers to the fixed prompts by the weights after `step`, one row each."""
        try:
            self._predictions.append({"step": step, "epoch": epoch, **row} for row in rows)
        except OSError as error:
            self.write_failed(step, f"The predictions of step {step} could not be written", error)
        if self._predictions.dropped:
            logger.warning("{} predictions wait for room on the disk", self._predictions.dropped)

    def checkpoint(
        self,
        step: int,
        fill: Callable[[Path], object],
        *,
        epoch: float | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Path:
        """Save atomically what `fill` writes, scored once with its inputs beside it.

        A mapping that `fill` returns goes into fettle.json.
        """
        scored, info = self._scored(step, epoch, provenance)
        path = write_checkpoint(self.folder.checkpoints_path, step, fill, info)
        self._saved(step, path, epoch, scored)
        return path

    def control(self, step: int, request: ControlRequest, *, paused: bool) -> None:
        """What somebody asked for was obeyed after `step`; the run is `paused` from here on, or is not."""
        fields: dict[str, Any] = {"step": step, **request.to_json()}
        if paused and self._paused_at is None:
            self._paused_at = self._clock()
        elif self._paused_at is not None and not paused:
            fields["paused_seconds"] = self._clock() - self._paused_at
            self._paused_at = None
            self._throughput.start()
        self._append("control", fields)
        self._update_status(force=True, state="paused" if paused else "running")

    def write_failed(self, step: int, what: str, error: OSError) -> None:
        """A file of the run could not be written; training goes on."""
        self._append("write_failed", {"step": step, "what": what, "error": error.strerror or str(error)})

    def end(self, state: State, *, step: int, reason: str, **more: Any) -> None:
        """The last record of the run, `more` in it. Closes the log."""
        share = self.monitor_share
        fields = {"step": step, "state": state, "reason": reason, "dropped_records": self._log.dropped}
        self._append("end", {**fields, "monitor_share": share, **self._billed(), **more})
        self._update_status(force=True, state=state, reason=reason, step=step, eta_seconds=None)
        self._log.close()
        self._predictions.close()
        self._alerts.close()

    @property
    def should_stop(self) -> bool:
        """Whether the fixed eval after the last step used up the patience of early stopping."""
        return (
            self._judgement is not None
            and self._judgement[0] == self.last_step
            and self._judgement[1].should_stop
        )

    # -- what a checkpoint carries ------------------------------------------------

    @property
    def monitor_share(self) -> float | None:
        """Share of training time spent in this recorder outside evaluation; None before any step."""
        return self._monitor_total / self._train_seconds if self._train_seconds else None

    def state_dict(self, step: int) -> dict[str, Any]:
        """Everything a resumed recorder needs to go on as if nothing had happened."""
        return {
            "step": step,
            "early_stopping": self.early_stopping.state_dict(),
            **self._counters.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.early_stopping.load_state_dict(state["early_stopping"])
        self._counters.load_state_dict(state)

    # -- the inside ----------------------------------------------------------------

    def _scored(
        self, step: int, epoch: float | None, provenance: Mapping[str, Any] | None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The score of the weights after `step` with its inputs, and all of fettle.json."""
        evaluated = self._judgement if self._judgement is not None and self._judgement[0] == step else None
        numbers = evaluated[1].fields if evaluated else {}
        eval_loss = numbers.get("cross_entropy")
        train_loss = evaluated[2] if evaluated else None
        improved = evaluated[1].improved if evaluated else None
        if self.incomparable_because is not None and eval_loss is not None and train_loss is not None:
            score = incomparable(eval_loss, train_loss, improved, self.incomparable_because)
        else:
            score = checkpoint_score(eval_loss, train_loss, improved=improved)
        scored = {
            "score": score.score,
            "components": score.components,
            "inputs": score.inputs,
            "score_version": score.version,
            "score_reason": score.reason,
            "cross_entropy": eval_loss,
            "exact_match": numbers.get("exact_match"),
            "train_loss": train_loss,
        }
        info = {
            "step": step,
            "epoch": epoch,
            "run": self.folder.path.name,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            **scored,
            **(provenance or {}),
            "state": self.state_dict(step),
        }
        return scored, info

    def _saved(self, step: int, path: Path, epoch: float | None, scored: Mapping[str, Any]) -> None:
        """A checkpoint is on disk, in the run folder or beside it."""
        relative = Path(os.path.relpath(path, self.folder.path)).as_posix()
        self.last_checkpoint = path
        disk = {"size_bytes": folder_size(path), "disk_free_bytes": self._disk_free()}
        self._append("checkpoint", {"step": step, "epoch": epoch, "path": relative, **scored, **disk})
        self._update_status(force=True, last_checkpoint=relative)

    def _judge(self, step: int, numbers: Mapping[str, Any]) -> Judgement:
        cross_entropy, exact_match = numbers.get("cross_entropy"), numbers.get("exact_match")
        improved, new_best = self._counters.compare(cross_entropy, exact_match)
        decision = self.early_stopping.update(step, cross_entropy)
        return Judgement(
            fields=dict(numbers),
            improved=improved,
            new_best=new_best,
            should_stop=decision.should_stop,
            evals_without_improvement=decision.evals_without_improvement,
        )

    def _speed(self) -> dict[str, Any]:
        average, baseline = self._throughput.average(), self._throughput.baseline()
        return {
            "tokens_per_sec": self._throughput.tokens_per_sec,
            "tokens_per_sec_average": average.tokens_per_sec if average else None,
            "tokens_per_sec_baseline": baseline.tokens_per_sec if baseline else None,
            "throughput_trend": self._throughput.trend,
        }

    def _append(self, type: str, fields: dict[str, Any]) -> None:
        if self._alerts.append(type, fields):
            self._status.update(active_alerts=self._alerts.active)

    def _billed(self) -> dict[str, Any]:
        """What the service charged until now."""
        return {} if self._bill is None else self._bill.fields()

    def _disk_free(self) -> int | None:
        """Bytes that are left for the run."""
        try:
            return shutil.disk_usage(self.folder.path).free
        except OSError:
            return None

    def _eta(self, step: int) -> float | None:
        seconds = self._throughput.seconds_per_step
        if self.total_steps is None or seconds is None:
            return None
        return max(0, self.total_steps - step) * seconds

    def _update_status(self, *, force: bool = False, **fields: Any) -> None:
        self._status.update(
            force=force,
            tokens_total=self._counters.tokens_total,
            completion_tokens_total=self._counters.completion_tokens_total,
            dropped_records=self._log.dropped,
            monitor_share=self.monitor_share,
            **self._billed(),
            **fields,
        )
