"""Requests of multiple-choice tasks: fettle as a model of lm-evaluation-harness beside its own `hf` model.

    python benchmarks/harness_tasks.py [--quick] [--json] [--rounds 3]

The same model object (random weights, 256 x 4, 32k vocabulary), tokenizer and texts on both sides, one
thread, from the texts of the requests to their log-likelihoods; CPU seconds of the process, in turns. A
ratio is taken within a round. The harness runs its default of one request at a time, and 8.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from loguru import logger

from scoring import CASES, Harness, build_model, cpu_seconds

SHAPE = CASES[0]


@dataclass(frozen=True)
class Task:
    """Documents with a question and choices, after examples that all of them share; lengths in tokens."""

    name: str
    documents: int
    question: tuple[int, int]
    choice: tuple[int, int]
    choices: int = 4
    examples: int = 0


TASKS = [
    Task("zero-shot", 24, question=(40, 160), choice=(3, 30)),
    Task("few-shot", 12, question=(20, 80), choice=(3, 12), examples=400),
    Task("letters", 24, question=(60, 160), choice=(1, 1)),
]


def requests(task: Task, documents: int) -> list[Any]:
    from lm_eval.api.instance import Instance

    rng = np.random.default_rng(0)

    def text(low: int, high: int) -> str:
        return " ".join(
            f"t{token}" for token in rng.integers(2, SHAPE.vocabulary, rng.integers(low, high + 1))
        )

    shared = text(task.examples, task.examples)
    asked: list[Any] = []
    for _ in range(documents):
        question = f"{shared} {text(*task.question)}".strip()
        pairs = [(question, f" {text(*task.choice)}") for _ in range(task.choices)]
        asked += [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    return asked


def run_task(task: Task, rounds: int, quick: bool) -> dict[str, Any]:
    from lm_eval.models.huggingface import HFLM

    from fettle.evaluation.lm_eval_model import FettleLM

    model = build_model(SHAPE)
    tokenizer = Harness(model, SHAPE.vocabulary).lm.tokenizer
    asked = requests(task, task.documents // 8 if quick else task.documents)
    ours: Any = FettleLM(model, tokenizer=tokenizer, progress=False)
    sides: dict[str, Any] = {"fettle": partial(ours.loglikelihood, asked)}
    for size in (1, 8):
        lm: Any = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=size)
        sides[f"batch_{size}"] = partial(lm.loglikelihood, asked, disable_tqdm=True)
    found, expected = sides["fettle"](), sides["batch_8"]()
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    difference = max(abs(own - their) for (own, _), (their, _) in zip(found, expected, strict=True))
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, work in sides.items():
            seconds[name].append(cpu_seconds(work))
    row: dict[str, Any] = {"task": task.name, "requests": len(asked), "max_difference": difference}
    for name, taken in seconds.items():
        row[f"{name}_cpu_s"] = statistics.median(taken)
        if name != "fettle":
            ratios = [their / own for own, their in zip(seconds["fettle"], taken, strict=True)]
            row |= {f"{name}_ratio": statistics.median(ratios), f"{name}_spread": [min(ratios), max(ratios)]}
    return row


def print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("task", "requests", "fettle s", "hf, batch 1", "hf, batch 8", "max |Δ|")
    for row in rows:
        sides = [
            f"{row[f'{name}_cpu_s']:.1f} s, {row[f'{name}_ratio']:.2f}x "
            f"({row[f'{name}_spread'][0]:.2f}-{row[f'{name}_spread'][1]:.2f})"
            for name in ("batch_1", "batch_8")
        ]
        count, own = str(row["requests"]), f"{row['fettle_cpu_s']:.2f}"
        table.add_row(row["task"], count, own, *sides, f"{row['max_difference']:.1e}")
    Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="an eighth of the documents, one round")
    parser.add_argument("--json", action="store_true", help="print one JSON array instead of the table")
    parser.add_argument("--rounds", type=int, default=3, help="rounds to take turns in (default 3)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logger.remove()
    logging.disable(logging.WARNING)
    rows = [run_task(task, 1 if options.quick else options.rounds, options.quick) for task in TASKS]
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        print_table(rows)


if __name__ == "__main__":
    main()
