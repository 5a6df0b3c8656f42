"""Results to compare: of evaluations, and of the fixed evals of runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from fettle.data import read_examples
from fettle.data.example import Message, message_text
from fettle.decide.paired import Metric, SampleValues, sample_values
from fettle.errors import DataError, RunError
from fettle.runs import RunFolder, RunReader
from fettle.runs.folder import RESULTS

PREDICTIONS = "predictions.jsonl"
METRICS: tuple[Metric, ...] = ("exact_match", "cross_entropy")
CORRECT = "_correct"
"""Ends the columns that say what a checker found right."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Per-sample results under a name, and where the texts of the samples are."""

    name: str
    values: dict[str, SampleValues]
    """By metric: exact_match, cross_entropy, and what each checker found right."""
    pattern: NDArray[np.str_]
    """Kind of prompt of each sample, [N]."""
    source: Path
    """predictions.jsonl of an evaluation, or the held-out file of a run."""


def find_results(path: Path, step: int | None = None) -> list[Compared]:
    """What a path holds: all results of an evaluation, one of them, or an eval of a run.

    `step` chooses the eval of a run, by default the last. Raises RunError where there are none.
    """
    files = sorted(path.glob(f"{RESULTS}/**/{PREDICTIONS}"), key=_order) or sorted(path.glob(PREDICTIONS))
    if files:
        return [_read(file) for file in files]
    if RunFolder.find(path) is None:
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
    values = {metric: sample_values(last.per_sample, metric) for metric in METRICS}
    source = reader.fixed_eval_file() or path
    return [Compared(f"{reader.name} step {last.step}", values, last.per_sample.pattern, source)]


def of_pattern(compared: Compared, metric: str, pattern: str) -> SampleValues:
    """One metric of the samples of one kind."""
    table, own = compared.values[metric], compared.pattern == pattern
    return SampleValues(table.sample_id[own], table.values[own], table.weights[own])


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
    return inside.name if inside.parent.name in (RESULTS, "") else f"{inside.parent.name}/{inside.name}"


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


def _read(file: Path) -> Compared:
    rows = list(_rows(file))
    try:
        sample_id = np.array([row["sample_id"] for row in rows], dtype=np.str_)
        tokens = np.array([row["tokens"] for row in rows], dtype=np.float64)
        sums = _numbers(rows, "cross_entropy") * np.maximum(tokens, 1)
        alike = np.ones(len(rows))
        checkers = [key for key in rows[0] if key.endswith(CORRECT)] if rows else []
        values = {
            "exact_match": SampleValues(sample_id, _numbers(rows, "exact_match"), alike),
            "cross_entropy": SampleValues(sample_id, sums, tokens),
            **{
                key.removesuffix(CORRECT): SampleValues(sample_id, _numbers(rows, key), alike)
                for key in checkers
            },
        }
        pattern = np.array([row["pattern"] for row in rows], dtype=np.str_)
        return Compared(_name(file), values, pattern, file)
    except (KeyError, TypeError) as error:
        raise RunError(f"{file}: a row lacks {error}; was it written by fettle eval?") from error


def _numbers(rows: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.float64]:
    """NaN for what was not measured."""
    # A sample whose answer nothing comes before was not asked, and no checker saw it.
    found = [row.get(key) if key.endswith(CORRECT) else row[key] for row in rows]
    return np.array([np.nan if value is None else float(value) for value in found])
