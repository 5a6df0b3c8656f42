"""A run folder with everything a run can record: what the page is looked at and tested with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from fettle.runs import RunFolder
from page.rich_drift import write_drift
from page.rich_texts import write_log, write_predictions
from page.rich_world import World

STARTED = 1_795_197_852.0
SECONDS_PER_STEP = 0.9
REASONS = {"completed": "all steps are done", "failed": "RuntimeError: out of memory"}
PATTERNS = ("coding", "creative", "factual", "math", "reasoning")


@dataclass(frozen=True, slots=True)
class RichRun:
    """What to generate."""

    name: str = "2026-11-20_18-04-12_qwen3-8b-r16"
    steps: int = 2000
    last_step: int | None = None
    """Steps that are done; None is all of them."""
    eval_every: int = 100
    samples: int = 400
    state: str | None = "completed"
    """Of the `end` record; None leaves the run without one."""
    seed: int = 0
    learning_rate: float = 2e-4
    patterns: tuple[str, ...] = PATTERNS
    tags: tuple[str, ...] = ("demo",)
    nan_steps: tuple[int, ...] = (612,)
    inf_steps: tuple[int, ...] = (613,)
    spike_steps: tuple[int, ...] = (1310,)

    @property
    def done(self) -> int:
        """The last step that is in the log."""
        return self.steps if self.last_step is None else self.last_step

    def time(self, step: int) -> float:
        """When a step ended, Unix seconds."""
        return STARTED + step * SECONDS_PER_STEP

    def epoch(self, step: int) -> float:
        """Passes over the data by then; the run is four."""
        return step / (self.steps / 4)


def write_rich_run(parent: Path, run: RichRun | None = None) -> Path:
    """Write the run under `parent` and return its folder."""
    run = run or RichRun()
    config = f"""# Resolved configuration: run it again with `fettle train config.yaml`.
model:
  name: Qwen/Qwen3-8B
data:
  train: data/train.jsonl
  fixed_eval: data/fixed_eval.jsonl
training:
  epochs: 4
  learning_rate: {run.learning_rate}
  batch_size: 16
  seed: {run.seed}
lora:
  rank: 16
  alpha: 32
"""
    metadata = {
        "model": {"name": "Qwen/Qwen3-8B", "parameters": 8_190_735_360},
        "data": {"train": {"file": "data/train.jsonl", "examples": 8000, "fingerprint": "xxh3:9b1c2f"}},
        "versions": {"fettle": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        "host": "workstation",
        "device": "cuda",
        "seed": run.seed,
        "created_at": "2026-11-20T18:04:12+00:00",
        "tags": list(run.tags),
    }
    folder = RunFolder.create(parent / run.name, config_yaml=config, metadata=metadata)
    records = list(_records(run, folder))
    lines = [orjson.dumps({"type": r.pop("type"), "timestamp": r.pop("timestamp"), **r}) for r in records]
    folder.metrics_path.write_bytes(b"\n".join(lines) + b"\n")
    folder.write_status(
        _status(run, [r for r in records if "eval_id" in r], [r for r in records if "change" in r])
    )
    write_log(run, folder.log_path)
    write_predictions(run, folder.predictions_path)
    write_drift(folder.drift_path)
    return folder.path


def _learning_rate(run: RichRun, step: int) -> float:
    warm = min(1.0, step / 100)
    return float(run.learning_rate * warm * 0.5 * (1 + np.cos(np.pi * step / run.steps)))


def _records(run: RichRun, folder: RunFolder) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(run.seed)
    yield {
        "type": "start", "timestamp": STARTED, "step": 0, "total_steps": run.steps,
        "steps_per_epoch": run.steps // 4, "epochs": 4, "learning_rate": run.learning_rate,
    }  # fmt: skip
    world = World(run)
    streaming, window = None, []
    for step in range(1, run.done + 1):
        loss = float(0.35 + 1.9 * np.exp(-step / 320) + 0.08 * rng.standard_normal())
        loss = 4.2 if step in run.spike_steps else loss
        odd = "nan" if step in run.nan_steps else "inf" if step in run.inf_steps else None
        if odd is None:
            streaming = loss if streaming is None else 0.0066 * loss + 0.9934 * streaming
            window.append(loss)
        numbers = {"loss": loss} if odd is None else {"loss": None, "loss_nonfinite": odd}
        yield _train(run, step, {**numbers, "streaming_ce": streaming}, rng)
        if step % 20 == 0:
            yield _system(run, step, rng)
        yield from _alerts(run, step)
        if step % run.eval_every == 0:
            yield world.evaluate(step, folder)
            yield world.layers(step, rng)
            yield world.save(step, folder, float(np.mean(window)) if window else None)
            window = []
    if run.state:
        yield {
            "type": "end", "timestamp": run.time(run.done), "step": run.done, "state": run.state,
            "reason": REASONS[run.state], "dropped_records": 0, "monitor_share": 0.0031,
        }  # fmt: skip


def _train(run: RichRun, step: int, loss: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    speed = 9100 + 300 * rng.standard_normal() - (1800 if 1500 <= step < 1560 else 0)
    grad_norm = 0.4 + 2 * np.exp(-step / 200) + 0.1 * abs(rng.standard_normal())
    tokens, completion = 8192, 3000
    return {
        "type": "train", "timestamp": run.time(step), "step": step, "epoch": run.epoch(step), **loss,
        "loss_sum": None if loss["loss"] is None else loss["loss"] * completion,
        "completion_tokens": completion, "tokens": tokens, "learning_rate": _learning_rate(run, step),
        "grad_norm": float(grad_norm) + (11.0 if step in run.spike_steps else 0.0),
        "tokens_per_sec": speed, "completion_tokens_per_sec": speed * completion / tokens,
        "step_time": tokens / speed, "monitor_time": 0.0028,
    }  # fmt: skip


def _system(run: RichRun, step: int, rng: np.random.Generator) -> dict[str, Any]:
    gib = 1024**3
    return {
        "type": "system", "timestamp": run.time(step), "step": step, "host_cpu": 0.22 + 0.05 * rng.random(),
        "host_memory_used": (41 + rng.random()) * gib, "host_memory_total": 128 * gib,
        "process_memory": (9 + 0.2 * rng.random()) * gib,
        "gpu_memory_used": (61.5 + 0.3 * rng.random()) * gib, "gpu_memory_total": 80 * gib,
        "gpu_utilization": min(1.0, 0.93 + 0.04 * rng.standard_normal()),
        "gpu_temperature": 64.0 + 3 * rng.random(), "gpu_power": 560 + 25 * rng.standard_normal(),
    }  # fmt: skip


def _alerts(run: RichRun, step: int) -> Iterator[dict[str, Any]]:
    broken = {
        "message": "Loss is NaN", "evidence": {"loss": "nan"},
        "action": "Stop; restart from checkpoint-600 with learning_rate 2e-05, a tenth of the peak.",
    }  # fmt: skip
    if step in run.nan_steps:
        yield {**_alert(run, step, "nan_loss", "critical"), **broken}
    if step - 2 in run.nan_steps:
        over = {"change": "resolved", "resolved": True, "resolved_step": step, "first_step": step - 2}
        yield {**_alert(run, step, "nan_loss", "critical"), **broken, **over}
    if step == 1520:
        yield {
            **_alert(run, step, "throughput_drop", "warning"),
            "message": "7300 tokens per second are 80 % of the 9100 at the beginning", "threshold": 0.85,
            "action": "See what else runs on the machine.", "evidence": {"tokens_per_sec": 7300.0},
        }  # fmt: skip
    if step == run.steps - 200:
        yield {
            **_alert(run, step, "calibration_drift", "warning"),
            "message": "ECE rose to 0.11, 1.8 times its best (0.06 at step 900)", "threshold": 1.5,
            "action": "Halve the learning rate, or use a checkpoint near step 900.",
            "evidence": {"expected_calibration_error": 0.11, "best_step": 900, "text": "ECE rose to 0.11"},
        }  # fmt: skip


def _alert(run: RichRun, step: int, category: str, level: str) -> dict[str, Any]:
    return {
        "type": "alert", "timestamp": run.time(step), "step": step, "change": "fired", "category": category,
        "level": level, "threshold": None, "first_step": step, "last_step": step, "resolved_step": None,
        "resolved": False,
    }  # fmt: skip


def _status(
    run: RichRun, evals: Sequence[dict[str, Any]], changes: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    alerts = {row["category"]: row for row in changes}
    return {
        "state": run.state or "running", "reason": REASONS.get(run.state or ""), "pid": 4242,
        "host": "workstation", "total_steps": run.steps, "step": run.done, "epoch": run.epoch(run.done),
        "loss": 0.371, "streaming_ce": 0.368, "learning_rate": _learning_rate(run, run.done),
        "tokens_per_sec": 9084.0, "updated_at": run.time(run.done),
        "eta_seconds": None if run.state else (run.steps - run.done) * SECONDS_PER_STEP,
        "tokens_total": 8192 * run.done, "completion_tokens_total": 3000 * run.done, "dropped_records": 0,
        "monitor_share": 0.0031, "fixed_eval": evals[-1] if evals else None,
        "best_step": min(evals, key=lambda row: row["cross_entropy"])["step"] if evals else None,
        "active_alerts": [row for row in alerts.values() if not row["resolved"]],
    }  # fmt: skip
