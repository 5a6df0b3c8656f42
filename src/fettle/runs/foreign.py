"""Which tool wrote a run, by what its files hold."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from fettle.errors import RunError
from fettle.runs.column_names import COLUMNS_FILE, KNOWN, ColumnNames, load_column_names
from fettle.runs.huggingface import STATE, HuggingFaceRun, states
from fettle.runs.json_lines import JsonLinesLog, is_own
from fettle.runs.json_object import parse_object
from fettle.runs.llama_factory import TRAINER_LOG, LlamaFactoryLog, is_llama_factory
from fettle.runs.source import Source
from fettle.runs.tensorboard import TensorBoardRun, event_files
from fettle.runs.tinker_cookbook import TinkerCookbookLog, is_tinker_cookbook

METRICS = "metrics.jsonl"
ROWS_TO_JUDGE_BY = 200
BYTES_TO_JUDGE_BY = 1 << 22


def find_source(path: Path, columns: Path | None = None) -> Source:
    """The importer of a run that fettle did not write.

    `columns` names the file that maps column names; without it, fettle-columns.yaml beside the log
    is taken. Raises RunError where nothing at `path` can be read as a run.
    """
    if not path.exists():
        raise RunError(f"{path}: there is no such run")
    names = _column_names(path, columns)
    if path.is_file():
        return _file_source(path, names)
    # Its log is ahead of the newest checkpoint until the trainer writes its last state.
    if (path / TRAINER_LOG).is_file() and not (path / STATE).is_file():
        return _file_source(path / TRAINER_LOG, names)
    if states(path):
        return HuggingFaceRun(path)
    if (path / METRICS).is_file():
        return _file_source(path / METRICS, names)
    if event_files(path):
        return TensorBoardRun(path, names or KNOWN)
    raise RunError(
        f"{path} is no run: it is neither a fettle run folder nor a Hugging Face output folder, and holds "
        f"no {STATE}, {METRICS}, {TRAINER_LOG} or TensorBoard event file"
    )


def _file_source(path: Path, names: ColumnNames | None) -> Source:
    if states(path):
        return HuggingFaceRun(path)
    if event_files(path):
        return TensorBoardRun(path, names or KNOWN)
    if path.suffix != ".jsonl":
        raise RunError(f"{path} is no run: it is no {STATE}, .jsonl log or TensorBoard event file")
    rows = _first_rows(path)
    if names is not None:
        _require_known(rows, names, path)
        return JsonLinesLog(path, names)
    if any(is_llama_factory(row) for row in rows):
        return LlamaFactoryLog(path)
    if any(is_tinker_cookbook(row) for row in rows):
        return TinkerCookbookLog(path)
    _require_known(rows, KNOWN, path)
    return JsonLinesLog(path)


def _column_names(path: Path, columns: Path | None) -> ColumnNames | None:
    beside = (path if path.is_dir() else path.parent) / COLUMNS_FILE
    if columns is None and not beside.is_file():
        return None
    return load_column_names(columns or beside)


def _first_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of the beginning of a log. Raises RunError where it cannot be read, or holds no JSON at all."""
    try:
        with path.open("rb") as stream:
            begun = stream.read(BYTES_TO_JUDGE_BY)
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}") from error
    lines = (line for line in begun.split(b"\n") if line.strip())
    rows = [row for line in islice(lines, ROWS_TO_JUDGE_BY) if (row := parse_object(line)) is not None]
    # A log of one line that is still being written may become anything; an empty one too.
    if not rows and b"\n" in begun.strip():
        raise RunError(f"{path}: none of its lines is a JSON object, so it is no log of metrics")
    return rows


def _require_known(rows: list[dict[str, Any]], names: ColumnNames, path: Path) -> None:
    known = any((names is KNOWN and is_own(row)) or any(names.records(row)) for row in rows)
    if not rows or known:
        return
    keys = ", ".join(sorted({key for row in rows for key in row})[:8])
    raise RunError(
        f"{path}: holds no step with a train loss or an eval under known names (there are: {keys}). Name its "
        f"columns in {COLUMNS_FILE} beside it, or with --columns: train: {{step: ..., loss: ...}}"
    )
