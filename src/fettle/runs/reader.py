"""Any run on disk, as columns, evals and checkpoints, whichever tool wrote it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml
from numpy.typing import NDArray

from fettle.errors import RunError
from fettle.runs.checkpoints import INFO, NAME, PINNED, folder_size, list_checkpoints
from fettle.runs.column_cache import ColumnCache
from fettle.runs.concept_drift import ConceptDrift, concept_drift
from fettle.runs.folder import RunFolder, is_locked, read_json
from fettle.runs.foreign import find_source
from fettle.runs.json_lines import RunLog
from fettle.runs.json_object import mapping
from fettle.runs.layers import layer_activity
from fettle.runs.numbers import integer, number
from fettle.runs.records import Checkpoint, FixedEval, LayerActivity, SampleResults, State, known_state
from fettle.runs.row_stream import RowReader
from fettle.runs.samples import load_samples, samples_path
from fettle.runs.source import Kind, Source
from fettle.runs.table import EventTable

EVAL_FIELDS = (
    "cross_entropy",
    "cross_entropy_low",
    "cross_entropy_high",
    "exact_match",
    "exact_match_low",
    "exact_match_high",
    "expected_calibration_error",
    "entropy",
)


class PlainLoader(yaml.SafeLoader):
    """YAML without aliases: a few lines of them can stand for more than any memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)


class RunReader:
    """Reads one run and never writes it. `refresh` takes in what was appended since.

    `columns` names the file that maps the columns of another tool's log. A folder in which fettle's
    callback left its own run (`fettle/`) is read as that run. Raises RunError where `path` holds
    nothing that can be read as a run.
    """

    def __init__(self, path: Path, columns: Path | None = None) -> None:
        self.name = path.resolve().name
        self._folder = RunFolder.find(path)
        self.path = self._folder.path if self._folder else path
        self._log = RunLog(self._folder.metrics_path) if self._folder else None
        self._source: Source = self._log or find_source(self.path, columns)
        self.kind: Kind = self._source.kind
        folder = self._folder
        self._predictions = RowReader(folder.predictions_path, "prediction") if folder else None
        # What fettle evaluates of a run of another tool lies beside it.
        evaluated = RunFolder(self.path).evaluations_path if self.path.is_dir() else None
        self._evaluations = RowReader(evaluated, "evaluation") if evaluated else None
        self._table = EventTable()
        self._generation = self._source.generation
        self._cache = ColumnCache(self._log.path) if self._log else None
        known = self._cache.load() if self._cache else None
        if known is not None and self._log is not None:
            place, self._table = known
            self._log.go_on(place)
        self.refresh()

    def refresh(self) -> None:
        """Take in what is new; nothing is read twice, unless the file was replaced."""
        while True:
            records = self._source.poll()
            if self._source.generation != self._generation:
                self._generation = self._source.generation
                self._table = EventTable()
            if not records:
                break
            self._table.extend(records)
        if self._cache is not None and self._log is not None:
            self._table = self._cache.save(self._log.place, self._table)

    @property
    def segment(self) -> str:
        """The stretch of the log that the rows are of: another one once rows were superseded or replaced.

        Within one, rows are only added. It is the same in another process that reads the same files.
        """
        return f"{self._source.segment}-{self._table.rewinds}"

    @property
    def position(self) -> int:
        """Records of the log taken in so far."""
        return self._table.taken

    def part(self, type: str, names: Iterable[str], start: int, stop: int) -> list[list[float]]:
        """Some columns of one record type between two rows, as lists; NaN where a row has no number."""
        return self._table.part(type, names, start, stop)

    def nonfinite(self, type: str, key: str) -> NDArray[np.float64] | None:
        """Of one column, which rows were logged as NaN (1), inf (2) or -inf (3), [rows]; None without any."""
        return self._table.nonfinite(type, key)

    def order(self, type: str) -> NDArray[np.float64]:
        """The position of each row of one type, [rows]."""
        return self._table.order(type)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that its columns take."""
        return self._table.nbytes

    @property
    def folder(self) -> RunFolder | None:
        """Its run folder; None where another tool wrote it."""
        return self._folder

    @property
    def log_path(self) -> Path | None:
        """Its text log; None where the tool that wrote it keeps none in its folder."""
        return self._folder.log_path if self._folder else None

    @property
    def config_path(self) -> Path | None:
        """Its configuration; None where the tool that wrote it keeps none."""
        return self._folder.config_path if self._folder else None

    def checkpoint_stamp(self) -> tuple[tuple[str | int, ...], ...]:
        """Names, times and sizes of what checkpoints are read from: equal as long as none changed."""
        saved = self._folder.checkpoints_path if self._folder else self.path
        told = (self.segment, len(self.records("checkpoint")), len(self.records("fixed_eval")))
        found = [_stamp(path) for _, path in list_checkpoints(saved)] if saved.is_dir() else []
        return (told, *found)

    def changed_at(self) -> float | None:
        """When its log was last written, in Unix seconds."""
        log = self._folder.metrics_path if self._folder else self._source.path
        try:
            return log.stat().st_mtime
        except OSError:
            return None

    def counts(self) -> dict[str, int]:
        """Rows of each record type."""
        return self._table.counts()

    @property
    def problems(self) -> list[str]:
        """What of the run could not be read, one line each; [] where all of it was."""
        if self._folder is not None and not self._folder.metrics_path.exists():
            return []  # A run that has not begun.
        return self._source.problems()

    def columns(self, type: str) -> Mapping[str, NDArray[np.float64]]:
        """Numeric columns of one record type, [rows] each; NaN where a row has no number."""
        return self._table.columns(type)

    def records(self, type: str, last: int | None = None) -> list[dict[str, Any]]:
        """Records of one type with all their keys, superseded ones left out; the `last` of them if asked."""
        return self._table.records(type, last)

    def records_between(self, type: str, start: int, stop: int) -> list[dict[str, Any]]:
        """Records of one type between two rows, with all their keys."""
        return self._table.records_between(type, start, stop)

    def predictions(self) -> list[dict[str, Any]]:
        """Answers to the fixed prompts over time, one row a step and prompt, superseded ones left out."""
        return self._predictions.rows() if self._predictions else []

    def evaluations(self) -> list[dict[str, Any]]:
        """What `fettle eval --watch` found, by step: the newest row of each checkpoint and file."""
        rows = self._evaluations.rows() if self._evaluations else []
        newest = {(integer(row.get("step")) or 0, str(row.get("data"))): row for row in rows}
        return [row for _, row in sorted(newest.items(), key=lambda item: item[0])]

    def drift(self) -> ConceptDrift | None:
        """Which concepts the run moved; None where no lens looked.

        By the newer of two: `fettle lens drift`, and what was read while it trained.
        """
        folder = RunFolder(self.path)
        found = [concept_drift(read_json(path)) for path in (folder.drift_path, folder.live_drift_path)]
        return max((d for d in found if d is not None), key=lambda d: d.created_at or "", default=None)

    def is_evaluated(self) -> bool:
        """Whether `fettle eval --watch` is at work on it: more evaluations may come after its end."""
        return is_locked(RunFolder(self.path).evaluations_lock_path)

    def evals(self, *, per_sample: bool = True) -> list[FixedEval]:
        """Fixed evals by step, with per-sample results where they are on disk and asked for."""
        evals = [self._eval(record, per_sample=per_sample) for record in self._table.records("fixed_eval")]
        return sorted(evals, key=lambda e: e.step)

    def eval_at(self, step: int) -> FixedEval | None:
        """The fixed eval of one step with its per-sample results; None where there was none."""
        records = [r for r in self._table.records("fixed_eval") if integer(r.get("step")) == step]
        return self._eval(records[-1], per_sample=True) if records else None

    def sample_steps(self) -> list[int]:
        """Steps of the fixed evals whose per-sample results are on disk."""
        if self._folder is None:
            return []
        folder = self._folder.fixed_eval_path
        steps = {integer(record.get("step")) or 0 for record in self._table.records("fixed_eval")}
        return sorted(step for step in steps if samples_path(folder, step).exists())

    def samples(self, step: int) -> SampleResults | None:
        """Per-sample results of one fixed eval; None where they are missing or unreadable."""
        return load_samples(self._folder.fixed_eval_path, step) if self._folder else None

    def _eval(self, record: dict[str, Any], *, per_sample: bool) -> FixedEval:
        step = integer(record.get("step")) or 0
        known = {name: number(record.get(name)) for name in EVAL_FIELDS}
        named = {"type", "timestamp", "step", "epoch", "samples", "tokens", *EVAL_FIELDS}
        folder = self._folder
        return FixedEval(
            step=step,
            epoch=number(record.get("epoch")),
            **known,
            samples=integer(record.get("samples")),
            tokens=integer(record.get("tokens")),
            per_sample=load_samples(folder.fixed_eval_path, step) if folder and per_sample else None,
            extra={key: value for key, value in record.items() if key not in named},
        )

    def layers(self) -> list[LayerActivity]:
        """How far each layer had moved, measurement by measurement."""
        return [layer_activity(record) for record in self._table.records("layers")]

    def checkpoints(self) -> list[Checkpoint]:
        """Checkpoints by step: those on disk, and those that only the log knows (path None)."""
        if self._folder is None:
            evals = {e.step: e.cross_entropy for e in self.evals(per_sample=False)}
            found = self._source.checkpoints(evals)
        else:
            found = [_from_info(path) for _, path in list_checkpoints(self._folder.checkpoints_path)]
            found += self._adopted_checkpoints()
        steps = {checkpoint.step for checkpoint in found}
        gone = [c for c in self._logged_checkpoints() if c.step not in steps]
        return sorted(found + gone, key=lambda c: c.step)

    def _adopted_checkpoints(self) -> list[Checkpoint]:
        """Those that another trainer wrote outside the run folder, where the log says they are."""
        paths = (str(record.get("path") or "") for record in self._table.records("checkpoint"))
        outside = [self.path / path for path in paths if path and not path.startswith("checkpoints/")]
        return [_from_info(path) for path in outside if NAME.match(path.name) and (path / INFO).is_file()]

    def _logged_checkpoints(self) -> list[Checkpoint]:
        records = self._table.records("checkpoint")
        return [_from_record(record, None) for record in records if integer(record.get("step")) is not None]

    def config(self) -> dict[str, Any] | None:
        """config.yaml as it stands; None where there is none. Raises RunError where it is damaged."""
        if self._folder is None or not self._folder.config_path.is_file():
            return None
        path = self._folder.config_path
        try:
            value: Any = yaml.load(path.read_bytes(), Loader=PlainLoader)
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
            raise RunError(f"{path}: is no YAML that can be read ({_first_line(error)})") from error
        return cast("dict[str, Any]", value) if isinstance(value, dict) else None

    def metadata(self) -> dict[str, Any] | None:
        """metadata.json; None where there is none."""
        return read_json(self._folder.metadata_path) if self._folder else None

    def fixed_eval_file(self) -> Path | None:
        """The held-out file it is judged on, as configuration or trainer named it; None without one."""
        for told in (self.config(), self.metadata()):
            named: Any = mapping((told or {}).get("data")).get("fixed_eval")
            path: Any = mapping(named).get("path", named)
            if isinstance(path, str):
                return Path(path)
        return None

    def status(self) -> dict[str, Any] | None:
        """status.json; None where there is none."""
        return read_json(self._folder.status_path) if self._folder else None

    def state(self) -> State:
        """How the run stands: its `end` record, else a living trainer, else it crashed."""
        starts = [*self.records("start"), *self.records("resume")]
        ends = self.records("end")
        last_start = max((number(r.get("timestamp")) or 0.0 for r in starts), default=0.0)
        if self._folder is not None and is_locked(self._folder.lock_path):
            return "paused" if self._is_paused() else "running"
        if ends and (number(ends[-1].get("timestamp")) or last_start) >= last_start:
            return known_state(ends[-1].get("state", "completed"))
        if self._folder is not None:
            return "crashed" if starts else "unknown"
        told = self._source.state()
        return told or ("early_stopped" if self.records("early_stop") else "unknown")

    def _is_paused(self) -> bool:
        """Whether its trainer, which lives, was asked to pause since it began, and not to resume."""
        last_start = max((*self.order("start"), *self.order("resume")), default=-1.0)
        asked = [
            record.get("action")
            for record, place in zip(self.records("control"), self.order("control"), strict=True)
            if place > last_start and record.get("action") in ("pause", "resume", "stop")
        ]
        return asked[-1:] == ["pause"]


def _from_info(path: Path) -> Checkpoint:
    info = read_json(path / INFO)
    try:
        created = datetime.fromtimestamp(path.stat().st_mtime, tz=UTC).isoformat(timespec="seconds")
    except FileNotFoundError:  # Removed just now.
        created = None
    step = int(path.name.rsplit("-", 1)[1])
    record = {"created_at": created, "size_bytes": folder_size(path), **(info or {}), "step": step}
    known = info is not None and info.get("step") == step and bool(info.get("run"))
    checkpoint = _from_record(record, path)
    return replace(checkpoint, pinned=(path / PINNED).exists(), has_provenance=known)


def _from_record(record: dict[str, Any], path: Path | None) -> Checkpoint:
    known = {"type", "timestamp", "state", "path"} | set(Checkpoint.__slots__)
    return Checkpoint(
        step=int(record["step"]),
        path=path,
        url=record["url"] if isinstance(record.get("url"), str) else None,
        epoch=number(record.get("epoch")),
        score=number(record.get("score")),
        components=record.get("components") or {},
        inputs=record.get("inputs") or {},
        score_version=record.get("score_version"),
        train_loss=number(record.get("train_loss")),
        cross_entropy=number(record.get("cross_entropy")),
        exact_match=number(record.get("exact_match")),
        size_bytes=integer(record.get("size_bytes")),
        created_at=record.get("created_at"),
        extra={key: value for key, value in record.items() if key not in known},
    )


def _stamp(checkpoint: Path) -> tuple[str | int, ...]:
    try:
        folder, info = checkpoint.stat(), checkpoint / INFO
        told = info.stat() if info.exists() else folder
    except FileNotFoundError:  # Removed just now.
        return (checkpoint.name,)
    return (checkpoint.name, folder.st_mtime_ns, told.st_mtime_ns, told.st_size)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
