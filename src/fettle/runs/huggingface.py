"""Hugging Face output folders and trainer_state.json files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import orjson

from fettle.errors import RunError
from fettle.runs.checkpoints import folder_size, list_checkpoints
from fettle.runs.records import Checkpoint

STATE = "trainer_state.json"
WEIGHTS = re.compile(r".*\.(safetensors|bin|pt|gguf)$")


def newest_state(path: Path) -> Path | None:
    """The trainer_state.json of the highest step in an output folder; the path itself where it is one."""
    if path.is_file():
        return path if path.name.endswith(STATE) else None
    found = [(step, folder / STATE) for step, folder in list_checkpoints(path) if (folder / STATE).is_file()]
    if (path / STATE).is_file():
        found.append((_global_step(path / STATE), path / STATE))
    return max(found)[1] if found else None


def read_state(path: Path) -> dict[str, Any]:
    """A trainer_state.json. Raises RunError naming what is wrong with it."""
    try:
        value: Any = orjson.loads(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise RunError(f"{path}: is no JSON ({error}). Was it cut off while it was written?") from error
    if not isinstance(value, dict) or not isinstance(value.get("log_history"), list):  # pyright: ignore[reportUnknownMemberType]
        raise RunError(f"{path}: holds no log_history, so it is no trainer_state.json")
    return cast("dict[str, Any]", value)


def output_checkpoints(folder: Path, evals: dict[int, float | None]) -> list[Checkpoint]:
    """Checkpoints of an output folder, with the eval loss that the log gives for their steps."""
    return [
        Checkpoint(
            step=step,
            path=path,
            cross_entropy=evals.get(step),
            size_bytes=folder_size(path),
        )
        for step, path in list_checkpoints(folder)
        if any(WEIGHTS.match(file.name) for file in path.iterdir())
    ]


def _global_step(path: Path) -> int:
    try:
        return int(read_state(path).get("global_step") or 0)
    except RunError:
        return -1
