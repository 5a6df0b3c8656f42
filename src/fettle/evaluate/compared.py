"""Results to compare: of evaluations, and of the fixed evals of runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson

from fettle.data import read_examples
from fettle.data.example import Message, message_text
from fettle.errors import DataError, RunError
from fettle.runs import RunReader
from fettle.runs.records import SampleResults

PREDICTIONS = "predictions.jsonl"


@dataclass(frozen=True, slots=True)
class Compared:
    """Per-sample results under a name, and where the texts of the samples are."""

    name: str
    samples: SampleResults
    source: Path
    """predictions.jsonl of an evaluation, or the held-out file of a run."""


def find_results(path: Path, step: int | None = None) -> list[Compared]:
    """What a path holds: all results of an evaluation, one of them, or an eval of a run.

    `step` chooses the eval of a run, by default the last. Raises RunError where there are none.
    """
    files = sorted(path.glob(f"results/**/{PREDICTIONS}"), key=_order) or sorted(path.glob(PREDICTIONS))
    if files:
        return [Compared(_name(file), _read(file), file) for file in files]
    if not RunReader.is_run(path):
        raise RunError(
            f"{path}: holds no results. Name a folder of `fettle eval`, one of its results, or a run"
        )
    reader = RunReader(path)
    evals = [e for e in reader.evals() if e.per_sample is not None and step in (None, e.step)]
    if not evals:
        raise RunError(
            f"{path}: has no per-sample results of {'any eval' if step is None else f'step {step}'}"
        )
    last = evals[-1]
    assert last.per_sample is not None
    return [Compared(f"{reader.name} step {last.step}", last.per_sample, reader.fixed_eval_file() or path)]


def texts(compared: Compared, wanted: set[str]) -> dict[str, tuple[str, str]]:
    """The last prompt and the golden answer of some samples, by id; {} where their file is gone."""
    found: dict[str, tuple[str, str]] = {}
    if compared.source.name == PREDICTIONS:
        for row in _rows(compared.source):
            if row["sample_id"] in wanted:
                found[row["sample_id"]] = (_last_prompt(row["prompt"]), row["golden"])
        return found
    if compared.source.is_file():
        try:
            for example in read_examples(compared.source):
                if example.id in wanted:
                    answer = example.messages[len(example.prompt)]
                    found[example.id] = (_last_prompt(example.prompt), message_text(answer))
        except DataError:
            return found
    return found


def _last_prompt(messages: list[Message]) -> str:
    return message_text(messages[-1]) if messages else ""


def _name(file: Path) -> str:
    inside = file.parent
    return inside.name if inside.parent.name in ("results", "") else f"{inside.parent.name}/{inside.name}"


def _order(file: Path) -> tuple[int, str]:
    """The base first, then by step, then by name."""
    name = _name(file)
    digits = name.removeprefix("step_").split("/")[0]
    return (-1 if name.startswith("base") else int(digits) if digits.isdecimal() else 1 << 62, name)


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    try:
        for number, line in enumerate(file.read_bytes().splitlines(), 1):
            try:
                yield cast("dict[str, Any]", orjson.loads(line))
            except orjson.JSONDecodeError as error:
                raise RunError(f"{file}:{number}: is no JSON: {error}") from error
    except OSError as error:
        raise RunError(f"{file}: cannot be read: {error.strerror or error}") from error


def _read(file: Path) -> SampleResults:
    rows = list(_rows(file))
    try:
        tokens = np.array([row["tokens"] for row in rows], dtype=np.int64)
        means = np.array([_number(row["cross_entropy"]) for row in rows])
        entropies = np.array([_number(row["entropy_mean"]) for row in rows])
        nothing = np.zeros((len(rows), 10))
        return SampleResults(
            sample_id=np.array([row["sample_id"] for row in rows], dtype=np.str_),
            pattern=np.array([row["pattern"] for row in rows], dtype=np.str_),
            cross_entropy_sum=np.where(tokens > 0, means * np.maximum(tokens, 1), 0.0),
            tokens=tokens,
            exact_match=np.array([bool(row["exact_match"]) for row in rows], dtype=np.bool_),
            entropy_sum=np.where(tokens > 0, entropies * np.maximum(tokens, 1), 0.0),
            bin_tokens=nothing,
            bin_confidence=nothing,
            bin_correct=nothing,
        )
    except (KeyError, TypeError) as error:
        raise RunError(f"{file}: a row lacks {error}; was it written by fettle eval?") from error


def _number(value: float | None) -> float:
    return np.nan if value is None else value
