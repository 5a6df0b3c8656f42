"""The texts of a generated run: its log, and the answers to its fixed prompts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson

if TYPE_CHECKING:
    from page.rich_run import RichRun

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


def write_log(run: RichRun, path: Path) -> None:
    lines = [
        "2026-11-20 18:04:12.101 INFO     fettle.train.job: Qwen/Qwen3-8B with LoRA of rank 16, alpha 32"
    ]
    for step in range(50, run.done + 1, 50):
        minute, second = divmod(int(run.time(step) - run.time(0)) + 252, 60)
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


def write_predictions(run: RichRun, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    rows = []
    for step in range(run.eval_every, run.done + 1, run.eval_every):
        for index, (question, truth, pattern) in enumerate(QUESTIONS):
            said = _answer(truth, step / run.steps, np.random.default_rng([run.seed, step, index]))
            rows.append(
                {
                    "type": "prediction", "timestamp": run.time(step), "step": step,
                    "epoch": run.epoch(step), "sample_index": index, "source_line": 12 + 31 * index,
                    "prompt_id": f"{index:016x}", "pattern": pattern,
                    "prompt": _turns(question),
                    "ground_truth": truth, "prediction": said, "ended": True, "prompt_tokens": 24,
                    "completion_tokens": 11, "latency_ms": 180.0, "exact_match": said == truth,
                    "character_error_rate": _error_rate(said, truth), "length_ratio": len(said) / len(truth),
                    "word_overlap": 0.8,
                }
            )  # fmt: skip
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def _turns(question: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": question}]


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
