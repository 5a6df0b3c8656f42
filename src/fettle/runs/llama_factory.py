"""LLaMA-Factory's trainer_log.jsonl: one row a log, with how far the run is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fettle.runs.huggingface import output_checkpoints
from fettle.runs.json_lines import JsonLinesLog
from fettle.runs.records import Checkpoint, State
from fettle.runs.source import Kind

TRAINER_LOG = "trainer_log.jsonl"
TRAIN = {"lr": "learning_rate", "current_steps": "step", "throughput": "tokens_per_sec"}


def is_llama_factory(row: Mapping[str, Any]) -> bool:
    """Whether a row was written by LLaMA-Factory's LogCallback (train/callbacks.py)."""
    return "current_steps" in row and ("total_steps" in row or "percentage" in row)


class LlamaFactoryLog(JsonLinesLog):
    """A trainer_log.jsonl, and the Hugging Face checkpoints beside it."""

    kind: Kind = "llama_factory"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._finished = False

    def translate(self, row: dict[str, Any]) -> Iterable[dict[str, Any]]:
        step, total = row.get("current_steps"), row.get("total_steps")
        if not isinstance(step, int) or isinstance(step, bool):
            return []
        # A resumed run appends to the same file: the last row says how far it is.
        self._finished = isinstance(total, int) and 0 < total <= step
        if "eval_loss" in row:
            rest = {key: value for key, value in row.items() if key not in {"eval_loss", "current_steps"}}
            return [{**rest, "type": "fixed_eval", "step": step, "cross_entropy": row["eval_loss"]}]
        if "loss" in row:
            return [{**{TRAIN.get(key, key): value for key, value in row.items()}, "type": "train"}]
        # The last row of a run, and those of a prediction, hold no loss.
        return [{**row, "type": "progress", "step": step}]

    def checkpoints(self, cross_entropy: Mapping[int, float | None]) -> list[Checkpoint]:
        """checkpoint-N folders beside the log."""
        return output_checkpoints(self.path.parent, cross_entropy)

    def state(self) -> State | None:
        """Completed at the last of all steps; before, the log does not tell."""
        return "completed" if self._finished else "unknown"
