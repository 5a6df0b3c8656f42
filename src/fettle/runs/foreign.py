"""Field names of other tools' logs, as fettle's records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

HUGGING_FACE_TRAIN = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "epoch": "epoch",
    "step": "step",
}
# The earlier Tinker trainer: one record a log interval, losses already per completion token.
TINKER_TRAIN = {"train_loss": "loss", "train_loss_total": "loss_sum"}
TINKER_EVAL = {"val_loss": "cross_entropy", "val_batches": "batches"}


def normalised(record: dict[str, Any]) -> dict[str, Any]:
    """A record of a metrics.jsonl under fettle's names; fettle's own pass unchanged."""
    type = record.get("type")
    if type == "train" and "train_loss" in record:
        return {TINKER_TRAIN.get(key, key): value for key, value in record.items()}
    if type == "val" or (type is None and "val_loss" in record):
        renamed = {TINKER_EVAL.get(key, key): value for key, value in record.items()}
        return {**renamed, "type": "fixed_eval"}
    if type == "early_stop" and "best_val_loss" in record:
        return {**record, "best": record["best_val_loss"]}
    if type is None and ("loss" in record or "train_loss" in record):
        return {**{TINKER_TRAIN.get(key, key): value for key, value in record.items()}, "type": "train"}
    return record


def hugging_face_records(log_history: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """`log_history` of a trainer_state.json: train logs, evals, and the summary of the end."""
    for entry in log_history:
        if not isinstance(entry, dict) or not isinstance(entry.get("step"), (int, float)):  # pyright: ignore[reportUnknownMemberType]
            continue
        row = cast("dict[str, Any]", entry)
        if "eval_loss" in row or any(str(key).startswith("eval_") for key in row):
            rest = {key: value for key, value in row.items() if key != "eval_loss"}
            yield {"type": "fixed_eval", **rest, "cross_entropy": row.get("eval_loss")}
        elif "loss" in row:
            yield {"type": "train", **{HUGGING_FACE_TRAIN.get(key, key): value for key, value in row.items()}}
        elif "train_runtime" in row:
            yield {"type": "end", **row, "state": "completed"}
