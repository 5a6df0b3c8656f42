"""How long a verdict takes: a run on disk, opened and judged, at several lengths of its log.

    python benchmarks/verdict.py [--steps 10000 100000 1000000] [--evals 100] [--samples 2000] [--json]

Seconds of CPU from the path to the verdict, and of the judging alone; the median of three, in one process
whose libraries are loaded.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from fettle import open_run
from fettle.metrics import summarise_samples
from fettle.runs import RunFolder, save_samples
from fettle.runs.records import SampleResults

ROUNDS = 3


def samples(rng: np.random.Generator, ids: np.ndarray, level: float) -> SampleResults:
    n = ids.size
    tokens = np.full(n, 20)
    bins = rng.multinomial(20, np.full(10, 0.1), size=n).astype(np.float64)
    return SampleResults(
        sample_id=ids,
        pattern=np.array(["coding", "math", "reasoning", "other"])[np.arange(n) % 4],
        cross_entropy_sum=20 * (level + rng.gamma(2, 0.2, n)),
        tokens=tokens,
        exact_match=rng.random(n) < 0.7 - 0.2 * level,
        entropy_sum=np.full(n, 10.0),
        bin_tokens=bins,
        bin_confidence=bins * 0.9,
        bin_correct=bins * 0.8,
    )


def write_run(path: Path, steps: int, evals: int, count: int) -> None:
    """A run folder as a trainer leaves it."""
    rng = np.random.default_rng(0)
    folder = RunFolder.create(path, config_yaml="model: none\n", metadata={})
    ids = np.array([f"{i:016x}" for i in rng.integers(2**62, size=count)])
    every = steps // evals
    loss = 1 + np.exp(-np.arange(steps) / steps) + 0.1 * rng.random(steps)
    with folder.metrics_path.open("wb") as log:
        for step in range(1, steps + 1):
            row: dict[str, Any] = {
                "type": "train", "timestamp": 1e9 + step, "step": step, "epoch": step / steps,
                "loss": loss[step - 1], "loss_sum": 500 * loss[step - 1], "completion_tokens": 500,
                "tokens": 2000, "learning_rate": 1e-4, "grad_norm": 1.0, "tokens_per_sec": 20_000.0,
                "completion_tokens_per_sec": 5000.0, "step_time": 0.1, "monitor_time": 1e-4,
                "streaming_ce": loss[step - 1],
            }  # fmt: skip
            log.write(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
            if step % every == 0:
                results = samples(rng, ids, 1 - 0.5 * step / steps)
                save_samples(folder.fixed_eval_path, step, results)
                row = {"type": "fixed_eval", "step": step, **summarise_samples(results)}
                log.write(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")


def measure(path: Path) -> dict[str, float]:
    whole: list[float] = []
    judging: list[float] = []
    for _ in range(ROUNDS):
        started = time.process_time()
        run = open_run(path)
        run.evidence()
        opened = time.process_time()
        run.verdict()
        ended = time.process_time()
        whole.append(ended - started)
        judging.append(ended - opened)
    return {"open_and_judge": statistics.median(whole), "judge": statistics.median(judging)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--evals", type=int, default=100)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for steps in arguments.steps:
            path = Path(folder) / str(steps)
            write_run(path, steps, arguments.evals, arguments.samples)
            rows.append({"steps": steps, **measure(path)})
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'steps':>9} {'open and judge':>15} {'judge again':>12}   ({arguments.evals} evals, CPU seconds)")
    for row in rows:
        print(f"{row['steps']:9} {row['open_and_judge']:15.2f} {row['judge']:12.2f}")


if __name__ == "__main__":
    main()
