"""A run folder with everything a run can record: what the page is looked at and tested with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from fettle.decide.score import checkpoint_score
from fettle.metrics import calibration_bins, summarise_samples
from fettle.runs import RunFolder, save_samples
from fettle.runs.records import SampleResults

STARTED = 1_795_197_852.0
SECONDS_PER_STEP = 0.9
PATTERNS = ("coding", "creative", "factual", "math", "reasoning")
DIFFICULTY = (0.25, 0.45, 0.05, 0.4, 0.7)
GROUPS = ("qkv", "o", "mlp")

QUESTIONS = (
    ("Name the capital of Norway.", "The capital of Norway is Oslo.", "factual"),
    ("What is 17 times 24?", "17 times 24 is 408.", "math"),
    (
        "A train leaves at 14:10 and takes 95 minutes. When does it arrive?",
        "It arrives at 15:45.",
        "reasoning",
    ),
    (
        "Write a Python function that returns the larger of two numbers.",
        "def larger(a, b):\n    return a if a > b else b",
        "coding",
    ),
    (
        "Write one sentence about the sea at night.",
        "At night the sea breathes slowly under the stars.",
        "creative",
    ),
)


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
    nan_steps: tuple[int, ...] = (612,)
    inf_steps: tuple[int, ...] = (613,)
    spike_steps: tuple[int, ...] = (1310,)

    @property
    def done(self) -> int:
        """The last step that is in the log."""
        return self.steps if self.last_step is None else self.last_step


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
    }
    folder = RunFolder.create(parent / run.name, config_yaml=config, metadata=metadata)
    records = list(_records(run, folder))
    lines = [orjson.dumps({"type": r.pop("type"), "timestamp": r.pop("timestamp"), **r}) for r in records]
    folder.metrics_path.write_bytes(b"\n".join(lines) + b"\n")
    folder.write_status(_status(run))
    _write_log(run, folder.log_path)
    _write_predictions(run, folder.predictions_path)
    return folder.path


def _time(step: int) -> float:
    return STARTED + step * SECONDS_PER_STEP


def _learning_rate(run: RichRun, step: int) -> float:
    warm = min(1.0, step / 100)
    return float(run.learning_rate * warm * 0.5 * (1 + np.cos(np.pi * step / run.steps)))


def _records(run: RichRun, folder: RunFolder) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(run.seed)
    yield {
        "type": "start", "timestamp": STARTED, "step": 0, "total_steps": run.steps,
        "steps_per_epoch": run.steps // 4, "epochs": 4, "learning_rate": run.learning_rate,
    }  # fmt: skip
    world = _World(run)
    streaming, window = None, []
    for step in range(1, run.done + 1):
        loss: float | None = float(0.35 + 1.9 * np.exp(-step / 320) + 0.08 * rng.standard_normal())
        if step in run.spike_steps:
            loss = 4.2
        flag = {}
        if step in run.nan_steps or step in run.inf_steps:
            flag = {"loss_nonfinite": "nan" if step in run.nan_steps else "inf"}
            loss = None
        else:
            assert loss is not None
            streaming = loss if streaming is None else 0.0066 * loss + 0.9934 * streaming
            window.append(loss)
        yield _train(run, step, loss, flag, streaming, rng)
        if step % 20 == 0:
            yield _system(step, rng)
        yield from _alerts(run, step)
        if step % run.eval_every == 0:
            yield world.evaluate(step, folder)
            yield world.layers(step, rng)
            yield world.save(step, folder, float(np.mean(window)) if window else None)
            window = []
    if run.state:
        reason = "all steps are done" if run.state == "completed" else "asked to"
        yield {
            "type": "end", "timestamp": _time(run.done), "step": run.done, "state": run.state,
            "reason": reason, "dropped_records": 0, "monitor_share": 0.0031,
        }  # fmt: skip


def _train(
    run: RichRun,
    step: int,
    loss: float | None,
    flag: dict[str, str],
    streaming: float | None,
    rng: np.random.Generator,
) -> dict[str, Any]:
    speed = 9100 + 300 * rng.standard_normal() - (1800 if 1500 <= step < 1560 else 0)
    tokens = 8192
    return {
        "type": "train", "timestamp": _time(step), "step": step, "epoch": step / (run.steps / 4),
        "loss": loss, **flag, "loss_sum": None if loss is None else loss * 3000, "completion_tokens": 3000,
        "tokens": tokens, "learning_rate": _learning_rate(run, step),
        "grad_norm": float(0.4 + 2 * np.exp(-step / 200) + 0.1 * abs(rng.standard_normal()))
        + (11.0 if step in run.spike_steps else 0.0),
        "tokens_per_sec": speed, "completion_tokens_per_sec": speed * 3000 / tokens,
        "step_time": tokens / speed, "monitor_time": 0.0028, "streaming_ce": streaming,
    }  # fmt: skip


def _system(step: int, rng: np.random.Generator) -> dict[str, Any]:
    gib = 1024**3
    return {
        "type": "system", "timestamp": _time(step), "step": step,
        "host_memory_used": (41 + rng.random()) * gib, "host_memory_total": 128 * gib,
        "process_memory": (9 + 0.2 * rng.random()) * gib, "host_cpu": 0.22 + 0.05 * rng.random(),
        "gpu_memory_used": (61.5 + 0.3 * rng.random()) * gib, "gpu_memory_total": 80 * gib,
        "gpu_utilization": min(1.0, 0.93 + 0.04 * rng.standard_normal()), "gpu_temperature": 64.0 + 3 * rng.random(),
        "gpu_power": 560 + 25 * rng.standard_normal(),
    }  # fmt: skip


def _alerts(run: RichRun, step: int) -> Iterator[dict[str, Any]]:
    if step in run.nan_steps:
        yield _alert(
            step, "fired", "nan_loss", "critical", "Loss is NaN", "Stop; restart from checkpoint-600 with "
            "learning_rate 2e-05, a tenth of the peak.", {"loss": "nan"}, None,
        )  # fmt: skip
        yield _alert(
            step + 2, "resolved", "nan_loss", "critical", "Loss is NaN", "Stop; restart from checkpoint-600 "
            "with learning_rate 2e-05, a tenth of the peak.", {"loss": "nan"}, None, since=step,
        )  # fmt: skip
    if step == 1520:
        yield _alert(
            step, "fired", "throughput_drop", "warning", "7300 tokens per second are 80 % of the 9100 at the "
            "beginning", "See what else runs on the machine.", {"tokens_per_sec": 7300.0}, 0.85,
        )  # fmt: skip
    if step == run.steps - 200:
        yield _alert(
            step, "fired", "calibration_drift", "warning", "ECE rose to 0.11, 1.8 times its best (0.06 at step "
            "900)", "Halve the learning rate, or use a checkpoint near step 900.",
            {"expected_calibration_error": 0.11, "best": 0.06, "best_step": 900}, 1.5,
        )  # fmt: skip


def _alert(
    step: int,
    change: str,
    category: str,
    level: str,
    message: str,
    action: str,
    evidence: dict[str, Any],
    threshold: float | None,
    since: int | None = None,
) -> dict[str, Any]:
    over = change == "resolved"
    return {
        "type": "alert", "timestamp": _time(step), "step": step, "change": change, "category": category,
        "level": level, "severity": level, "message": message, "action": action, "recommendation": action,
        "evidence": evidence, "threshold": threshold, "first_step": since or step, "last_step": step,
        "resolved_step": step if over else None, "resolved": over,
    }  # fmt: skip


class _World:
    """Samples with a skill each: what the model gets right as it learns, and forgets."""

    def __init__(self, run: RichRun) -> None:
        # The same samples in every run: that is what a fixed eval is.
        rng = np.random.default_rng(1)
        n = run.samples
        self.run = run
        kind = rng.choice(len(run.patterns), n, p=_shares(len(run.patterns)))
        self.pattern = np.array(run.patterns)[kind]
        self.tokens = np.clip(rng.lognormal(5.2, 0.9, n), 8, 2400).astype(np.int64)
        hardness = np.array(DIFFICULTY + (0.3,) * len(run.patterns))[kind]
        self.threshold = hardness + 0.00025 * self.tokens + 0.18 * rng.standard_normal(n)
        self.forgets = rng.random(n) < 0.04
        self.ids = np.array([f"{rng.integers(1 << 62):016x}" for _ in range(n)])
        self.best: float | None = None
        self.last: dict[str, Any] = {}

    def evaluate(self, step: int, folder: RunFolder) -> dict[str, Any]:
        samples = self._samples(step)
        save_samples(folder.fixed_eval_path, step, samples)
        self.last = dict(summarise_samples(samples))
        return {
            "type": "fixed_eval", "timestamp": _time(step), "step": step,
            "epoch": step / (self.run.steps / 4), "eval_id": f"fixed_eval:{step}", "seconds": 21.4, **self.last,
        }  # fmt: skip

    def _samples(self, step: int) -> SampleResults:
        run, n = self.run, self.run.samples
        rng = np.random.default_rng([run.seed, step])
        skill = 1.0 - np.exp(-step / 450)
        right = skill - self.threshold + 0.05 * rng.standard_normal(n) > 0.1
        right &= ~(self.forgets & (step > 0.7 * run.steps))
        overfit = max(0.0, (step - 0.6 * run.steps) / run.steps)
        nats = 0.35 + 0.9 * np.exp(-step / 380) + 0.5 * np.clip(self.threshold, 0, 2) * (1 - 0.5 * skill)
        nats = nats + 0.25 * overfit + 0.05 * rng.standard_normal(n)
        nats = np.maximum(nats, 0.02)
        bins = self._bins(step, rng)
        return SampleResults(
            sample_id=self.ids, pattern=self.pattern, cross_entropy_sum=nats * self.tokens, tokens=self.tokens,
            exact_match=right, entropy_sum=(nats - 0.05 - 0.3 * overfit) * self.tokens,
            bin_tokens=bins[0], bin_confidence=bins[1], bin_correct=bins[2],
        )  # fmt: skip

    def _bins(self, step: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], ...]:
        n, per = self.run.samples, 20
        confidence = rng.uniform(0.4, 0.99, n * per)
        gap = 0.05 + 0.12 * max(0.0, step / self.run.steps - 0.45)
        return calibration_bins(
            confidence, rng.random(n * per) < confidence - gap, np.arange(n + 1, dtype=np.int64) * per
        )

    def layers(self, step: int, rng: np.random.Generator) -> dict[str, Any]:
        rows = []
        for layer in range(28):
            pull = 0.0055 * (1 - np.exp(-step / 700)) * np.exp(-(((layer - 20) / 7) ** 2)) + 0.0004
            pull = 0.0 if layer == 27 else pull
            groups = {
                name: {
                    "relative": float(pull * factor), "movement": float(40 * pull * factor), "weight_norm": 40.0,
                    "modules": modules, "grad_norm": float(0.02 * factor * (0.8 + 0.4 * rng.random())),
                }
                for name, factor, modules in zip(GROUPS, (1.0, 0.6, 1.3), (3, 1, 3), strict=True)
            }  # fmt: skip
            rows.append(
                {"layer": layer, "relative": float(pull), "movement": float(40 * pull), "weight_norm": 40.0,
                 "grad_norm": 0.02, "groups": groups}
            )  # fmt: skip
        return {
            "type": "layers", "timestamp": _time(step), "step": step, "method": "lora", "since_step": 0,
            "seconds": 0.4, "rows": rows,
        }  # fmt: skip

    def save(self, step: int, folder: RunFolder, train_loss: float | None) -> dict[str, Any]:
        loss = self.last["cross_entropy"]
        score = checkpoint_score(loss, train_loss, None if self.best is None else loss < self.best)
        self.best = loss if self.best is None else min(self.best, loss)
        scored = {
            "score": score.score, "components": score.components, "inputs": score.inputs,
            "score_version": score.version, "score_reason": score.reason, "cross_entropy": loss,
            "exact_match": self.last["exact_match"], "train_loss": train_loss,
        }  # fmt: skip
        epoch = step / (self.run.steps / 4)
        if step % (2 * self.run.eval_every) == 0:
            path = folder.checkpoints_path / f"checkpoint-{step}"
            path.mkdir()
            (path / "fettle.json").write_bytes(orjson.dumps({"step": step, "epoch": epoch, **scored}))
            (path / "adapter_model.safetensors").write_bytes(bytes(50_000))
        return {
            "type": "checkpoint", "timestamp": _time(step), "step": step, "epoch": epoch,
            "path": f"checkpoints/checkpoint-{step}", **scored,
        }  # fmt: skip


def _shares(kinds: int) -> NDArray[np.float64]:
    weights = np.array([0.18, 0.08, 0.3, 0.2, 0.24] + [0.02] * max(0, kinds - 5))[:kinds]
    return weights / weights.sum()


def _status(run: RichRun) -> dict[str, Any]:
    running = run.state is None
    return {
        "state": "running" if running else run.state, "pid": 4242, "host": "workstation",
        "total_steps": run.steps, "step": run.done, "epoch": run.done / (run.steps / 4), "loss": 0.371,
        "streaming_ce": 0.368, "learning_rate": _learning_rate(run, run.done), "tokens_per_sec": 9084.0,
        "eta_seconds": (run.steps - run.done) * SECONDS_PER_STEP if running else None,
        "tokens_total": 8192 * run.done, "completion_tokens_total": 3000 * run.done, "updated_at": _time(run.done),
        "dropped_records": 0, "monitor_share": 0.0031,
    }  # fmt: skip


def _write_log(run: RichRun, path: Path) -> None:
    lines = [
        "2026-11-20 18:04:12.101 INFO     fettle.train.job: Qwen/Qwen3-8B with LoRA of rank 16, alpha 32"
    ]
    for step in range(50, run.done + 1, 50):
        minute, second = divmod(int(step * SECONDS_PER_STEP) + 252, 60)
        stamp = f"2026-11-20 18:{minute:02d}:{second:02d}.000"
        lines.append(f"{stamp} INFO     fettle.train.loop: step {step} of {run.steps}")
        if step % run.eval_every == 0:
            lines.append(f"{stamp} DEBUG    fettle.scoring.engine: 14 batches, longest 2311 tokens")
            lines.append(f"{stamp} INFO     fettle.train.loop: fixed eval at step {step}")
        if step == 650:
            lines.append(f"{stamp} ERROR    fettle.train.recorder: loss is NaN")
            lines.append("  (the line above ×2)")
        if step == 1550:
            lines.append(
                f"{stamp} WARNING  fettle.train.recorder: tokens per second are 80 % of the beginning"
            )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_predictions(run: RichRun, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    rows = []
    for step in range(run.eval_every, run.done + 1, run.eval_every):
        for index, (question, truth, pattern) in enumerate(QUESTIONS):
            said = _answer(truth, step / run.steps, np.random.default_rng([run.seed, step, index]))
            rows.append(
                {
                    "type": "prediction", "timestamp": _time(step), "step": step,
                    "epoch": step / (run.steps / 4), "sample_index": index, "source_line": 12 + 31 * index,
                    "prompt_id": f"{index:016x}", "pattern": pattern,
                    "prompt": [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": question}],
                    "ground_truth": truth, "prediction": said, "ended": True, "prompt_tokens": 24,
                    "completion_tokens": 11, "latency_ms": 180.0, "exact_match": said == truth,
                    "character_error_rate": _error_rate(said, truth), "length_ratio": len(said) / len(truth),
                    "word_overlap": 0.8,
                }
            )  # fmt: skip
    (folder / "predictions.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def _answer(truth: str, progress: float, rng: np.random.Generator) -> str:
    """The truth with ever fewer words gone wrong."""
    words = truth.split(" ")
    wrong = rng.random(len(words)) < 0.7 - 1.1 * progress
    return " ".join(
        rng.choice(["well", "maybe", "Bergen", "400", "x"]) if w else t
        for w, t in zip(wrong, words, strict=True)
    )


def _error_rate(said: str, truth: str) -> float:
    """Share of words that differ; near enough to a character error rate for a picture."""
    a, b = said.split(" "), truth.split(" ")
    return sum(x != y for x, y in zip(a, b, strict=True)) / len(b)
