"""What the view shows of a run at one moment: values of its files, and what `decide` says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, cast

from fettle.decide.direction import Direction
from fettle.runs.json_object import mapping
from fettle.runs.log_lines import LogLine
from fettle.runs.numbers import integer
from fettle.runs.records import FixedEval
from fettle.runs.summary import RunSummary

if TYPE_CHECKING:
    from fettle.metrics.buckets import Buckets


@dataclass(frozen=True, slots=True)
class DataSet:
    """The file that a run trains on, or is evaluated on."""

    name: str
    fingerprint: str | None
    examples: int | None


@dataclass(frozen=True, slots=True)
class Loss:
    """The last value of a loss. `value` None is not measured, unless `nonfinite` says what it was."""

    value: float | None = None
    nonfinite: str | None = None
    """`nan`, `inf` or `-inf` where the last one was logged as that."""
    step: int | None = None
    direction: Direction | None = None


@dataclass(frozen=True, slots=True)
class Losses:
    """Cross-entropy in nats per token."""

    train: Loss = Loss()
    """Of the last logged step."""
    streaming: Loss = Loss()
    """Its moving average, as it was logged."""
    validation: Loss = Loss()
    """Of the last fixed eval."""


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Train loss in buckets of equal width, exact extremes kept; its moving average in buckets too."""

    loss: Buckets
    streaming: Buckets


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """One moment of a run."""

    summary: RunSummary
    reading: bool = False
    """Whether the log is still being read for the first time: only the small files are told."""
    gone: bool = False
    """Whether the run folder is there no more; everything else is what it said last."""
    segment: str = ""
    """Another one once rows were superseded."""
    train_data: DataSet | None = None
    eval_data: DataSet | None = None
    status: Mapping[str, Any] = field(default_factory=dict[str, Any])
    train: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The last `train` record."""
    system: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The last `system` record."""
    losses: Losses = Losses()
    evals: tuple[FixedEval, ...] = ()
    """By step, without per-sample results."""
    curves: Curves | None = None
    layers: Mapping[str, Any] | None = None
    """`layer_activity_summary` of the last measurement, and its step."""
    alerts: tuple[Mapping[str, Any], ...] = ()
    """Those that are open, the most serious first."""
    verdict: Mapping[str, Any] | None = None
    """`Verdict.to_json()`; None while it is not known."""
    verdict_problem: str | None = None
    """Why there is none."""
    problems: tuple[str, ...] = ()
    """What of the run could not be read."""
    log: tuple[LogLine, ...] | None = None
    """The last lines of its text log; None where it has none."""
    refusal: str | None = "the run is still being read"
    """Why its trainer cannot be asked for anything; None where it can."""
    asked: str | None = None
    """What the trainer was asked for and has not done yet."""

    @property
    def evidence(self) -> dict[str, Any]:
        """What the verdict rests on; {} while there is none."""
        return {} if self.verdict is None else cast("dict[str, Any]", self.verdict["evidence"])

    def to_json(self) -> dict[str, Any]:
        """All of it but the curves, which are the log itself, as plain values."""
        told = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "curves"}
        shaped = ("summary", "train_data", "eval_data", "losses")
        told |= {name: asdict(told[name]) for name in shaped if told[name] is not None}
        told["evals"] = [asdict(e) for e in self.evals]
        told["log"] = None if self.log is None else [asdict(line) for line in self.log]
        return told


def data_set(metadata: Mapping[str, Any] | None, name: str) -> DataSet | None:
    """One file of `data` in metadata.json; None where it does not name one."""
    known = mapping(mapping((metadata or {}).get("data")).get(name))
    path, fingerprint = known.get("path") or known.get("file"), known.get("fingerprint")
    if not isinstance(path, str):
        return None
    return DataSet(
        PurePath(path.replace("\\", "/")).name,
        fingerprint if isinstance(fingerprint, str) else None,
        integer(known.get("examples")),
    )
