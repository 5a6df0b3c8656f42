"""What is evaluated: base models and checkpoints, with where their weights are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fettle.config import EndpointConfig
from fettle.errors import ModelError, RunError
from fettle.evaluation.weights import broken_weights, weight_files
from fettle.runs import RunReader, verify_checkpoint
from fettle.runs.checkpoints import MANIFEST
from fettle.runs.folder import read_json
from fettle.runs.records import Checkpoint

ADAPTER_CONFIG = "adapter_config.json"
MODEL_CONFIG = "config.json"
ENDPOINT = "endpoint-"
"""Begins the name of every model behind an API."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One set of weights."""

    name: str
    """`base`, `step_<N>`, or the name of a model: names its folder of results."""
    step: int | None
    """Of the training run; 0 for the model that it began with, None outside a run."""
    model: str
    """Hub id or folder of whole weights."""
    adapter: Path | None = None
    """Folder of a LoRA adapter on top of them."""

    @property
    def tokenizer(self) -> str:
        """Where its tokenizer is: its own, or that of its base."""
        own = self.adapter
        return str(own) if own and (own / "tokenizer_config.json").is_file() else self.model


@dataclass(frozen=True, slots=True)
class EndpointSubject:
    """A model behind an API, whose weights nobody here has seen."""

    name: str
    """`endpoint-<model>`: no step and no base is called so."""
    config: EndpointConfig
    tokenizer: str | None
    """Its own where that was named, or that of a model evaluated beside it; None: none is known."""
    step: int | None = None


Evaluated = Subject | EndpointSubject


def endpoint_subject(config: EndpointConfig, beside: Sequence[Subject]) -> EndpointSubject:
    """The model of the configuration, among others."""
    last = config.model.rstrip("/").rpartition("/")[2]
    name = f"{ENDPOINT}{re.sub(r'[^A-Za-z0-9._-]+', '_', last)}"
    return EndpointSubject(name, config, config.tokenizer or (beside[0].tokenizer if beside else None))


@dataclass(frozen=True, slots=True)
class Skipped:
    """Weights that are not evaluated, and why."""

    name: str
    reason: str


def find_subjects(
    path: str, checkpoints: str = "all", *, base: bool = True, best: int | None = None
) -> tuple[list[Subject], list[Skipped]]:
    """The checkpoints of a run by step, the model it began with before them; or one model.

    `checkpoints` is all, best, last, or steps such as 10,20,30; `best` is the step that best means.
    Raises RunError for a run without the checkpoints asked for, ModelError where `path` holds neither
    a run nor a model.
    """
    folder = Path(path)
    if (folder / ADAPTER_CONFIG).is_file():
        return [Subject(folder.name, None, _base_of(folder), folder)], []
    if (folder / MODEL_CONFIG).is_file() or (not folder.exists() and folder.suffix == "" and "/" in path):
        return [Subject(folder.name, None, path)], []
    if not folder.is_dir():
        raise ModelError(f"{path}: no such run or model. Name a run folder, a model folder, or a hub id")
    reader = RunReader(folder)
    known = reader.checkpoints()
    chosen = _choose(known, checkpoints, best, reader.name)
    return subjects_of(reader, chosen, base=base)


def _choose(known: Sequence[Checkpoint], which: str, best: int | None, run: str) -> list[Checkpoint]:
    steps = {checkpoint.step: checkpoint for checkpoint in known}
    there = ", ".join(map(str, steps)) or "none"
    wanted: list[int] = []
    for part in which.split(","):
        if part == "all":
            wanted += steps
        elif part == "last":
            wanted += list(steps)[-1:]
        elif part == "best":
            wanted += [] if best is None else [best]
        elif part.strip().isdecimal():
            wanted.append(int(part))
        else:
            raise RunError(f"--checkpoints {which}: must be all, best, last, or steps such as 10,20,30")
    missing = [step for step in wanted if step not in steps]
    if missing or not wanted:
        what = f"of step {', '.join(map(str, missing))}" if missing else f"for --checkpoints {which}"
        raise RunError(f"{run} has no checkpoint {what}. There are: {there}")
    return [steps[step] for step in sorted(set(wanted))]


def subjects_of(
    run: RunReader, checkpoints: Sequence[Checkpoint], *, base: bool
) -> tuple[list[Subject], list[Skipped]]:
    """These checkpoints, the model that the run began with before them; and those that cannot be used."""
    model: Any = (run.config() or {}).get("model")
    began_with = model if isinstance(model, str) else None
    subjects: list[Subject] = []
    skipped: list[Skipped] = []
    for checkpoint in checkpoints:
        name = f"step_{checkpoint.step}"
        reason = _unusable(checkpoint.path) or _elsewhere(checkpoint)
        if reason is not None or checkpoint.path is None:
            skipped.append(Skipped(name, reason or "it is gone"))
            continue
        if not (checkpoint.path / ADAPTER_CONFIG).is_file():
            subjects.append(Subject(name, checkpoint.step, str(checkpoint.path)))
            continue
        own_base = _base_of(checkpoint.path)
        began_with = began_with or own_base
        if own_base != began_with:
            skipped.append(Skipped(name, f"its adapter is for {own_base}, the run's model is {began_with}"))
            continue
        subjects.append(Subject(name, checkpoint.step, began_with, checkpoint.path))
    if base and began_with is not None:
        subjects.insert(0, Subject("base", 0, began_with))
    return subjects, skipped


def _unusable(path: Path | None) -> str | None:
    if path is None or not path.is_dir():
        return "it is gone"
    if (path / MANIFEST).is_file():
        return verify_checkpoint(path)
    return broken_weights(path)


def _elsewhere(checkpoint: Checkpoint) -> str | None:
    """What to do about weights that only a service holds; None where they are here."""
    if checkpoint.url is None or checkpoint.path is None or weight_files(checkpoint.path):
        return None
    return f"its weights are with the service: fettle checkpoints RUN --download {checkpoint.step}"


def _base_of(adapter: Path) -> str:
    config = read_json(adapter / ADAPTER_CONFIG)
    base: Any = None if config is None else config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelError(f"{adapter / ADAPTER_CONFIG}: does not name its base model")
    return base
