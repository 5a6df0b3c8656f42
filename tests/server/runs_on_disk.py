"""Run folders as trainers leave them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fettle.decide import checkpoint_score
from fettle.metrics import summarise_samples
from fettle.runs import EventLog, RunFolder, save_samples, write_checkpoint
from fettle.runs.records import SampleResults

CONFIG = "model: tiny\ntraining:\n  learning_rate: 0.001\n"


def begin(path: Path, *, total_steps: int = 100, **metadata: Any) -> tuple[RunFolder, EventLog]:
    """A run that has just begun."""
    told = {
        "config_hash": "x",
        "created_at": "2026-01-02T03:04:05+00:00",
        "model": {"name": "tiny"},
        **metadata,
    }
    folder = RunFolder.create(path, config_yaml=CONFIG, metadata=told)
    log = EventLog(folder.metrics_path)
    log.append("start", {"step": 0, "total_steps": total_steps})
    write_status(folder, state="running", step=0, total_steps=total_steps)
    return folder, log


def write_status(folder: RunFolder, **fields: Any) -> None:
    """status.json with these fields."""
    folder.write_status({"updated_at": 1_767_323_045.0, **fields})


def train(log: EventLog, steps: range, loss: Mapping[int, float] | None = None) -> None:
    """One train record a step; `loss` overrides 4/step."""
    for step in steps:
        value = (loss or {}).get(step, 4.0 / step)
        log.append(
            "train",
            {
                "step": step,
                "epoch": step / 50,
                "loss": value,
                "loss_sum": value * 100,
                "completion_tokens": 100,
                "tokens": 300,
                "learning_rate": 1e-3,
                "grad_norm": 1.5,
            },
        )


def samples(count: int, right: int, seed: int = 0) -> SampleResults:
    """Results of `count` samples of two kinds, the first `right` of them exact."""
    random = np.random.default_rng(seed)
    tokens = random.integers(2, 9, count)
    exact = np.arange(count) < right
    confidence = random.uniform(0.1, 1.0, (count, 10)) * tokens[:, None] / 10
    return SampleResults(
        sample_id=np.array([f"sample-{i:04d}" for i in range(count)]),
        pattern=np.where(np.arange(count) % 2 == 0, "maths", "facts"),
        cross_entropy_sum=np.where(exact, 0.1, 2.0) * tokens + random.uniform(0, 0.05, count),
        tokens=tokens.astype(np.int64),
        exact_match=exact,
        entropy_sum=random.uniform(0.1, 0.4, count) * tokens,
        bin_tokens=np.repeat(tokens[:, None] / 10, 10, 1),
        bin_confidence=confidence,
        bin_correct=confidence * 0.9,
    )


def evaluate(folder: RunFolder, log: EventLog, step: int, right: int, count: int = 200) -> float:
    """A fixed eval with its samples; its cross-entropy."""
    results = samples(count, right, seed=step)
    save_samples(folder.fixed_eval_path, step, results)
    numbers = summarise_samples(results)
    log.append("fixed_eval", {"step": step, "epoch": step / 50, "seconds": 1.5, **numbers})
    return float(numbers["cross_entropy"])


def save_checkpoint(folder: RunFolder, log: EventLog, step: int, eval_loss: float, train_loss: float) -> Path:
    """A scored checkpoint with a little file for its weights."""
    score = checkpoint_score(eval_loss, train_loss, improved=True)
    info = {
        "step": step, "run": folder.path.name, "epoch": step / 50, "score": score.score,
        "components": score.components, "inputs": score.inputs, "score_version": score.version,
        "cross_entropy": eval_loss, "train_loss": train_loss,
    }  # fmt: skip
    path = write_checkpoint(
        folder.checkpoints_path, step, lambda aside: (aside / "w.safetensors").write_bytes(b"w" * 10), info
    )
    log.append("checkpoint", {**info, "path": f"checkpoints/{path.name}"})
    return path


def finished(path: Path, *, steps: int = 60, **metadata: Any) -> RunFolder:
    """A run of `steps` steps with three evals and checkpoints, completed."""
    folder, log = begin(path, total_steps=steps, **metadata)
    third = steps // 3
    for step, right in ((third, 80), (2 * third, 150), (3 * third, 140)):
        train(log, range(step - third + 1, step + 1))
        loss = evaluate(folder, log, step, right)
        save_checkpoint(folder, log, step, loss, 4.0 / step)
    log.append("end", {"step": steps, "state": "completed", "reason": "all steps are done"})
    log.close()
    folder.log_path.write_text("2026-01-01 00:00:00.000 INFO     a: begin\n", encoding="utf-8")
    write_status(
        folder, state="completed", step=steps, total_steps=steps, loss=4.0 / steps, best_step=2 * third
    )
    return folder
