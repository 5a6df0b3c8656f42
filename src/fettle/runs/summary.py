"""One line about a run, from its small files where there are some: the log of a fettle run is not read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fettle.errors import RunError
from fettle.runs.folder import CALLBACK_FOLDER, RunFolder, is_locked, read_json
from fettle.runs.json_object import mapping
from fettle.runs.numbers import integer, number
from fettle.runs.records import LIVE, State, known_state

if TYPE_CHECKING:
    from fettle.runs.reader import RunReader


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a list of runs shows of one. None is not measured, or not told."""

    name: str
    kind: str
    state: State
    step: int | None = None
    total_steps: int | None = None
    epoch: float | None = None
    started_at: float | None = None
    """Unix seconds."""
    updated_at: float | None = None
    """Unix seconds."""
    model: str | None = None
    loss: float | None = None
    streaming_ce: float | None = None
    cross_entropy: float | None = None
    """Of the last fixed eval."""
    exact_match: float | None = None
    """Of the last fixed eval."""
    best_step: int | None = None
    eta_seconds: float | None = None
    alerts: int | None = None
    """Open alerts."""
    tags: list[str] = field(default_factory=list[str])
    problem: str | None = None
    """Why it cannot be read."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def summarise_run(path: Path) -> RunSummary:
    """How a run stands. A fettle run tells by status.json and metadata.json; of others the log is read."""
    folder = RunFolder.find(path)
    status = read_json(folder.status_path) if folder else None
    if folder is not None and status is not None:
        return _from_status(path.name, folder, status)
    from fettle.runs.reader import RunReader

    try:
        return _from_log(path.name, RunReader(path))
    except RunError as error:
        return RunSummary(path.name, "unknown", "unknown", problem=str(error))


def summarise_reader(reader: RunReader) -> RunSummary:
    """The same of a run that is held open: its log is not read again."""
    status = read_json(reader.folder.status_path) if reader.folder else None
    if reader.folder is not None and status is not None:
        return _from_status(reader.name, reader.folder, status)
    return _from_log(reader.name, reader)


def is_running(path: Path) -> bool:
    """Whether a living trainer holds the run."""
    inner = path / CALLBACK_FOLDER
    return is_locked(RunFolder(path).lock_path) or is_locked(RunFolder(inner).lock_path)


def _from_status(name: str, folder: RunFolder, status: dict[str, Any]) -> RunSummary:
    metadata = folder.read_metadata()
    evaluated = mapping(status.get("fixed_eval"))
    return RunSummary(
        name=name,
        kind="fettle",
        state=_state(status, folder),
        step=integer(status.get("step")),
        total_steps=integer(status.get("total_steps")),
        epoch=number(status.get("epoch")),
        started_at=_seconds(metadata.get("created_at")),
        updated_at=number(status.get("updated_at")),
        model=_model(metadata.get("model")),
        loss=number(status.get("loss")),
        streaming_ce=number(status.get("streaming_ce")),
        cross_entropy=number(evaluated.get("cross_entropy")),
        exact_match=number(evaluated.get("exact_match")),
        best_step=integer(status.get("best_step")),
        eta_seconds=number(status.get("eta_seconds")),
        alerts=_count(status.get("active_alerts")),
        tags=_tags(metadata.get("tags")),
    )


def _state(status: dict[str, Any], folder: RunFolder) -> State:
    """What the status says, but that a run whose trainer is gone does not run."""
    state = known_state(status.get("state"))
    if is_locked(folder.lock_path):
        return "paused" if state == "paused" else "running"
    return "crashed" if state in LIVE else state


def _from_log(name: str, reader: RunReader) -> RunSummary:
    train, evals = reader.records("train", last=1), reader.evals(per_sample=False)
    row: dict[str, Any] = train[-1] if train else {}
    best = min(
        ((e.cross_entropy, e.step) for e in evals if e.cross_entropy is not None), default=(None, None)
    )[1]
    starts = reader.records("start")
    return RunSummary(
        name=name,
        kind=reader.kind,
        state=reader.state(),
        step=integer(row.get("step")),
        total_steps=integer(starts[-1].get("total_steps")) if starts else None,
        epoch=number(row.get("epoch")),
        updated_at=reader.changed_at(),
        loss=number(row.get("loss")),
        streaming_ce=number(row.get("streaming_ce")),
        cross_entropy=evals[-1].cross_entropy if evals else None,
        exact_match=evals[-1].exact_match if evals else None,
        best_step=best,
        problem="; ".join(reader.problems) or None,
    )


def _model(told: Any) -> str | None:
    """Its name: a callback tells that alone, `fettle train` more of it."""
    name = told if isinstance(told, str) else mapping(told).get("name")
    return name if isinstance(name, str) else None


def _count(value: Any) -> int | None:
    return len(cast("list[Any]", value)) if isinstance(value, list) else integer(value)


def _tags(value: Any) -> list[str]:
    return (
        [tag for tag in cast("list[Any]", value) if isinstance(tag, str)] if isinstance(value, list) else []
    )


def _seconds(time: Any) -> float | None:
    """Unix seconds of a time in ISO format."""
    try:
        return datetime.fromisoformat(time).timestamp() if isinstance(time, str) else None
    except (ValueError, OverflowError):
        return None
