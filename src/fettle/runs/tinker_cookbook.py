"""Log folders of tinker-cookbook: metrics.jsonl, and checkpoints.jsonl with what the service keeps.

Field names as of tinker-cookbook 0.6.1 (supervised/train.py, rl/train.py, checkpoint_utils.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fettle.runs.follow import LogFollower
from fettle.runs.json_lines import JsonLinesLog
from fettle.runs.records import Checkpoint, State
from fettle.runs.source import Kind

CHECKPOINTS = "checkpoints.jsonl"
TRAIN = {
    "train_mean_nll": "loss",
    "learning_rate": "learning_rate",
    "optim/lr": "learning_rate",
    "num_loss_tokens": "completion_tokens",
    "num_tokens": "tokens",
    "time/total": "step_time",
    "time_total": "step_time",
}
EVAL_LOSS = "test/nll"
EVAL_PREFIX = "test/"


def is_tinker_cookbook(row: Mapping[str, Any]) -> bool:
    """Whether a row of a metrics.jsonl was written by tinker-cookbook."""
    return any(key in row for key in ("train_mean_nll", EVAL_LOSS, "progress/batch", "progress/done_frac"))


class TinkerCookbookLog(JsonLinesLog):
    """metrics.jsonl of a log folder. Its steps count from 0, and the eval of a row precedes its update.

    After `step` updates the weights are those whose eval, and whose train loss, the row holds. The
    pipelined trainer saves the checkpoint of that name one or two updates later; it is matched with
    the eval of its name all the same, as the tool's own pages do.
    """

    kind: Kind = "tinker_cookbook"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._saved = LogFollower(path.with_name(CHECKPOINTS))
        self._records: list[dict[str, Any]] = []
        self._last_step: int | None = None

    def poll(self) -> list[dict[str, Any]]:
        generation = self._saved.generation
        new = self._saved.poll()
        self._records = [*(self._records if generation == self._saved.generation else []), *new]
        return super().poll()

    def translate(self, row: dict[str, Any]) -> Iterable[dict[str, Any]]:
        step = row.get("step", row.get("progress/batch"))
        if not isinstance(step, int) or isinstance(step, bool):
            return []
        self._last_step = max(step, self._last_step or 0)
        train = {TRAIN.get(key, key): row[key] for key in row if not key.startswith(EVAL_PREFIX)}
        records = [{**train, "type": "train", "step": step}]
        tested = {key: row[key] for key in row if key.startswith(EVAL_PREFIX) and key != EVAL_LOSS}
        if EVAL_LOSS in row or tested:
            shared = {"type": "fixed_eval", "step": step, "epoch": row.get("epoch")}
            records.append({**shared, **tested, "cross_entropy": row.get(EVAL_LOSS)})
        return records

    def checkpoints(self, cross_entropy: Mapping[int, float | None]) -> list[Checkpoint]:
        """What checkpoints.jsonl names; the weights are with the service, so there is a URL and no path."""
        found: dict[int, Checkpoint] = {}
        for record in self._records:
            step = self._step(record)
            url = record.get("sampler_path") or record.get("state_path")
            if step is None or not isinstance(url, str):
                continue
            epoch = record.get("epoch")
            found[step] = Checkpoint(
                step=step,
                path=None,
                url=url,
                epoch=float(epoch) if isinstance(epoch, int) else None,
                cross_entropy=cross_entropy.get(step),
                extra=record,
            )
        return [found[step] for step in sorted(found)]

    def state(self) -> State | None:
        """Completed once the final checkpoint is saved; before, the files do not tell."""
        return "completed" if any(_is_final(record) for record in self._records) else "unknown"

    def problems(self) -> list[str]:
        found = super().problems()
        if self._saved.skipped:
            found.append(
                f"{CHECKPOINTS}: {self._saved.skipped} of its lines could not be read and are left out"
            )
        if self._saved.torn:
            found.append(f"{CHECKPOINTS}: its last line is not whole and is left out")
        return found

    def _step(self, record: Mapping[str, Any]) -> int | None:
        """The step a checkpoint belongs to: its name says it; the final one comes after the last step."""
        name = str(record.get("name", ""))
        if name.isascii() and name.isdigit() and len(name) < 16:
            return int(name)
        if _is_final(record) and self._last_step is not None:
            return self._last_step + 1
        # `batch` counts within an epoch: it is a step where there are no epochs.
        step = record.get("step", record.get("batch") if not record.get("epoch") else None)
        return step if isinstance(step, int) and not isinstance(step, bool) else None


def _is_final(record: Mapping[str, Any]) -> bool:
    return record.get("name") == "final" or record.get("final") is True
