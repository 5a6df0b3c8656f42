"""Hugging Face output folders and trainer_state.json files."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import xxhash

from fettle.errors import RunError
from fettle.runs.checkpoints import PINNED, folder_size, list_checkpoints
from fettle.runs.column_names import FLAG
from fettle.runs.json_object import mapping, parse_object
from fettle.runs.records import Checkpoint, State
from fettle.runs.source import Kind

STATE = "trainer_state.json"
# A state of a million log rows is about 200 MB; the whole file has to be in memory at once.
LARGEST_STATE_BYTES = 1 << 30
WEIGHTS = re.compile(r".*\.(safetensors|bin|pt|gguf)$")
# Weights that several processes wrote together: DeepSpeed's and FSDP's.
SHARDS = re.compile(r"(global_step\d+|pytorch_model_fsdp_\d+)$")
SET_LOSS = re.compile(r"eval_.+_loss$")
NO_WEIGHTS = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state.*)\.(bin|pt|safetensors)$")


class HuggingFaceRun:
    """An output folder (its newest readable trainer_state.json), or one trainer_state.json."""

    kind: Kind = "huggingface"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        self._read: tuple[Path, int] | None = None
        self._state: dict[str, Any] = {}
        self._problems: list[str] = []

    @property
    def segment(self) -> str:
        """The state that was read: each one holds all records."""
        file, time = self._read or (self.path, 0)
        return f"{xxhash.xxh3_64_hexdigest(str(file).encode())[:8]}.{time:x}"

    def poll(self) -> list[dict[str, Any]]:
        """All records, once for every new state. Raises RunError where no state can be read."""
        candidates = states(self.path)
        if not candidates:
            raise RunError(f"{self.path}: its {STATE} is gone")
        try:
            newest = (candidates[0], candidates[0].stat().st_mtime_ns)
        except FileNotFoundError:  # The trainer removed that checkpoint just now: what was read stands.
            return []
        if newest == self._read:
            return []
        self._state, self._problems = _first_readable(candidates)
        self._read = newest
        self.generation += 1
        history = list(_rows(self._state["log_history"]))
        name = eval_loss_name(history)
        if name not in (None, "eval_loss"):
            self._problems.append(f"there are several evaluation sets: the eval loss read is {name}")
        return list(log_records(history, name))

    def checkpoints(self, cross_entropy: Mapping[int, float | None]) -> list[Checkpoint]:
        """checkpoint-N folders, and weights saved in the output folder itself."""
        if not self.path.is_dir():
            return []
        found = output_checkpoints(self.path, cross_entropy, best=self._state.get("best_model_checkpoint"))
        step = self._state.get("global_step")
        # With a best checkpoint the folder may hold that one (load_best_model_at_end), which it does not say.
        unclear = self._state.get("best_model_checkpoint") is not None
        if isinstance(step, int) and not unclear and has_weights(self.path):
            if any(c.step == step for c in found):
                return found
            size = sum(file.stat().st_size for file in self.path.iterdir() if file.is_file())
            final = Checkpoint(step, self.path, cross_entropy=cross_entropy.get(step), size_bytes=size)
            found = sorted([*found, final], key=lambda c: c.step)
        return found

    def state(self) -> State | None:
        """Completed at max_steps or with the summary of the end; stopped early where the callback says so."""
        if _stopped_early(self._state):
            return "early_stopped"
        step, last = self._state.get("global_step"), self._state.get("max_steps")
        if isinstance(step, int) and isinstance(last, int) and 0 < last <= step:
            return "completed"
        ended = any("train_runtime" in row for row in _rows(self._state.get("log_history", [])))
        return "completed" if ended else "unknown"

    def problems(self) -> list[str]:
        """Newer states that could not be read."""
        return self._problems


def states(path: Path) -> list[Path]:
    """trainer_state.json files of an output folder, of the highest step first; the path where it is one.

    One that the folder itself holds, and that cannot be read, comes first: it was to be the last.
    """
    if path.is_file():
        return [path] if path.suffix == ".json" else []
    found = [(step, folder / STATE) for step, folder in list_checkpoints(path) if (folder / STATE).is_file()]
    if (path / STATE).is_file():
        found.append((_global_step(path / STATE), path / STATE))
    return [file for _, file in sorted(found, reverse=True)]


def read_state(path: Path) -> dict[str, Any]:
    """A trainer_state.json. Raises RunError naming what is wrong with it."""
    try:
        size = path.stat().st_size
        if size > LARGEST_STATE_BYTES:
            raise RunError(f"{path}: {size / 1e9:.1f} GB is too large for a {STATE}")
        value = parse_object(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from error
    if value is None:
        cause = "is empty" if size == 0 else "is no JSON object. Was it cut off while it was written?"
        raise RunError(f"{path}: {cause}")
    if not isinstance(value.get("log_history"), list):
        raise RunError(f"{path}: holds no log_history, so it is no {STATE}")
    return value


def eval_loss_name(history: Iterable[Mapping[str, Any]]) -> str | None:
    """The key of the eval loss: eval_loss, or the first of `eval_<set>_loss` where there are several sets."""
    named = [key for row in history for key in row if key == "eval_loss" or SET_LOSS.match(key)]
    return "eval_loss" if "eval_loss" in named else next(iter(named), None)


def log_records(history: Iterable[Mapping[str, Any]], loss: str | None) -> Iterator[dict[str, Any]]:
    """`log_history` of a trainer_state.json: train logs, and evals with the eval loss under this key.

    Each evaluation set has a row of its own: those of one step are one eval.
    """
    rows: dict[tuple[str, float], dict[str, Any]] = {}
    for row in history:
        type = "fixed_eval" if any(key.startswith("eval_") for key in row) else "train"
        if type == "fixed_eval" or "loss" in row:
            rows.setdefault((type, row["step"]), {"type": type}).update(row)
    for (type, _), row in rows.items():
        if type == "train":
            yield row
        else:
            flags = {f"cross_entropy{FLAG}": row[f"{loss}{FLAG}"]} if f"{loss}{FLAG}" in row else {}
            rest = {key: value for key, value in row.items() if key not in (loss, f"{loss}{FLAG}")}
            yield {**rest, "cross_entropy": row.get(loss or ""), **flags}


def output_checkpoints(
    folder: Path, cross_entropy: Mapping[int, float | None], best: object = None
) -> list[Checkpoint]:
    """checkpoint-N folders that hold weights or an adapter, with the eval loss the log gives for their steps.

    `best` is the checkpoint the trainer itself names best; it may lie where the run was trained, so
    that its folder's name is what counts.
    """
    name = Path(best).name if isinstance(best, str) else None
    return [
        Checkpoint(
            step=step,
            path=path,
            cross_entropy=cross_entropy.get(step),
            size_bytes=folder_size(path),
            pinned=(path / PINNED).exists(),
            extra={"best_of_trainer": True} if path.name == name else {},
        )
        for step, path in list_checkpoints(folder)
        if has_weights(path)
    ]


def has_weights(folder: Path) -> bool:
    """Whether a folder holds a model or an adapter, and not only what a trainer keeps beside one."""
    try:
        files = list(folder.iterdir())
    except FileNotFoundError:  # The trainer removed it just now.
        return False
    return any(
        SHARDS.match(file.name)
        if file.is_dir()
        else WEIGHTS.match(file.name) and not NO_WEIGHTS.match(file.name)
        for file in files
    )


def _rows(log_history: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for entry in log_history:
        row = mapping(entry)
        if isinstance(row.get("step"), (int, float)):
            yield row


def _first_readable(candidates: list[Path]) -> tuple[dict[str, Any], list[str]]:
    """The newest state that can be read, and why each newer one cannot. Raises RunError without any."""
    errors: list[RunError] = []
    for file in candidates:
        try:
            state = read_state(file)
        except RunError as error:
            errors.append(error)
            continue
        return state, [f"{error} Read {file.parent.name}/{file.name} instead." for error in errors]
    raise errors[0]


def _stopped_early(state: Mapping[str, Any]) -> bool:
    """Whether Transformers' EarlyStoppingCallback had counted to its patience when the state was written."""
    callbacks = state.get("stateful_callbacks")
    stored: Any = (
        cast("dict[str, Any]", callbacks).get("EarlyStoppingCallback")
        if isinstance(callbacks, dict)
        else None
    )
    if isinstance(stored, list):
        stored = cast("list[Any]", stored)[0] if stored else None
    try:
        return (
            stored["attributes"]["early_stopping_patience_counter"]
            >= stored["args"]["early_stopping_patience"]
        )
    except (KeyError, TypeError):
        return False


def _global_step(path: Path) -> int:
    status = path.stat()
    return _read_global_step(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _read_global_step(path: Path, mtime_ns: int, size: int) -> int:
    """Read once for every state of the file: it is asked for at every refresh."""
    try:
        step = read_state(path).get("global_step")
    except RunError:
        return sys.maxsize
    return step if isinstance(step, int) else 0
