"""What watching costs a Hugging Face `Trainer`: none, TensorBoard, trackio or fettle, a row at every step.

    python benchmarks/callback.py [--steps 300] [--rounds 5] [--json]

The same model, data and steps for each, every contender in a process of its own, one thread, rounds
interleaved. The median step's CPU time of the whole process, so that work in other threads counts;
without evaluation, which none of the others does. One short example a step: a step of a few
milliseconds shows what a larger one would hide.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

from training import build_model, examples

CONTENDERS = ("none", "fettle", "tensorboard", "trackio")
VOCABULARY, BATCH = 360, 1
WARM_UP = 10


def run_one(name: str, steps: int) -> None:
    """In the child: train and print CPU seconds a step."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import (
        DataCollatorForSeq2Seq,
        PreTrainedTokenizerFast,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    class Clock(TrainerCallback):
        """CPU time at the beginning of each step: between two lies all that a step is."""

        def __init__(self) -> None:
            self.at: list[float] = []

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.at.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(TRACKIO_DIR=f"{folder}/trackio", TENSORBOARD_LOGGING_DIR=f"{folder}/board")
        rows = examples(VOCABULARY) * (1 + (steps + WARM_UP) * BATCH // 128)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), pad_token="<pad>")
        trainer: Any = Trainer(
            build_model(VOCABULARY),
            TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=BATCH,
                max_steps=steps + WARM_UP,
                report_to=[] if name in ("none", "fettle") else [name],
                save_strategy="no",
                logging_steps=10_000 if name in ("none", "fettle") else 1,
                disable_tqdm=True,
                use_cpu=True,
            ),
            train_dataset=Dataset.from_list(rows),
            data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True),
        )
        if name == "fettle":
            from fettle import FettleCallback

            trainer.add_callback(FettleCallback())
        clock = Clock()
        trainer.add_callback(clock)
        trainer.train()
        took = [later - earlier for earlier, later in pairwise(clock.at[WARM_UP:])]
        print("RESULT", json.dumps({"ms": 1000 * statistics.median(took)}))


def measure(name: str, steps: int) -> float:
    command = [sys.executable, str(Path(__file__)), "--child", name, "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "RESULT" not in done.stdout:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.rsplit("RESULT", 1)[1].splitlines()[0])["ms"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_one(arguments.child, arguments.steps)
        return
    rounds = [{name: measure(name, arguments.steps) for name in CONTENDERS} for _ in range(arguments.rounds)]
    table: list[dict[str, Any]] = []
    for name in CONTENDERS:
        added = sorted(row[name] - row["none"] for row in rounds)
        table.append(
            {
                "contender": name,
                "ms_per_step": statistics.median(row[name] for row in rounds),
                "added_ms": [added[0], statistics.median(added), added[-1]],
            }
        )
    if arguments.json:
        print(json.dumps(table, indent=2))
        return
    print(f"{'contender':12} {'CPU ms/step':>11}   added ms (range)")
    for row in table:
        low, middle, high = row["added_ms"]
        print(f"{row['contender']:12} {row['ms_per_step']:11.2f}   {middle:+.2f} ({low:+.2f} to {high:+.2f})")


if __name__ == "__main__":
    main()
