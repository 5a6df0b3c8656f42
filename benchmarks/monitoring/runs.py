"""The runs that are looked at: the same numbers in fettle's folders and in trackio's database."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from fettle.runs import RunFolder

SCALARS = (
    "loss", "streaming_ce", "learning_rate", "grad_norm", "tokens_per_sec", "step_time", "epoch", "tokens",
    "completion_tokens", "monitor_time",
)  # fmt: skip
SPIKE = 50.0
PROJECT = "bench"


def losses(steps: int, spikes: NDArray[np.int64]) -> NDArray[np.float64]:
    """A course of loss with a spike of one step at each of `spikes`, [steps]."""
    rng = np.random.default_rng(0)
    loss = 0.5 + 2 * np.exp(-np.arange(steps) / (steps / 5)) + 0.05 * rng.standard_normal(steps)
    loss[spikes] = SPIKE
    return loss


def values(loss: NDArray[np.float64], scalars: tuple[str, ...] = SCALARS) -> NDArray[np.float64]:
    """Ten scalars a step that differ from step to step, [steps, scalars]."""
    factors = 1 + np.arange(len(scalars)) / 7
    noise = np.random.default_rng(1).random((loss.size, len(scalars))) * 0.01
    table = loss[:, None] * factors + noise
    table[:, 0] = loss
    return table


def write_fettle(path: Path, loss: NDArray[np.float64], scalars: tuple[str, ...] = SCALARS) -> RunFolder:
    """A completed run folder with one train record a step."""
    folder = RunFolder.create(path, config_yaml="model:\n  name: tiny\n", metadata={"model": {"name": "t"}})
    block = 200_000
    with folder.metrics_path.open("wb") as log:
        for first in range(0, loss.size, block):
            rows = values(loss[first : first + block], scalars).tolist()
            log.write(
                b"".join(
                    orjson.dumps({"type": "train", "step": step, **dict(zip(scalars, row, strict=True))})
                    + b"\n"
                    for step, row in enumerate(rows, first + 1)
                )
            )
        log.write(orjson.dumps({"type": "end", "step": loss.size, "state": "completed"}) + b"\n")
    folder.write_status({"state": "completed", "step": loss.size, "total_steps": loss.size})
    return folder


def write_trackio(folder: Path, runs: dict[str, NDArray[np.float64]]) -> None:
    """The same steps by trackio's own bulk writer, in a process of its own: it takes its folder at import."""
    process = multiprocessing.get_context("spawn").Process(target=_write_trackio, args=(folder, runs))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit("trackio could not be written")


def _write_trackio(folder: Path, runs: dict[str, NDArray[np.float64]]) -> None:
    os.environ["TRACKIO_DIR"] = str(folder)
    from trackio.sqlite_storage import SQLiteStorage

    for name, loss in runs.items():
        for first in range(0, loss.size, 100_000):
            part = values(loss[first : first + 100_000]).tolist()
            SQLiteStorage.bulk_log(
                PROJECT,
                name,
                [dict(zip(SCALARS, row, strict=True)) for row in part],
                steps=list(range(first + 1, first + 1 + len(part))),
            )
