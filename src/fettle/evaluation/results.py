"""What an evaluation gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fettle.decide.paired import SampleValues
from fettle.evaluation.measurement import Stage
from fettle.evaluation.subject import Evaluated, Skipped, Subject
from fettle.runs.records import SampleResults


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an evaluation is."""

    subject: str
    number: int
    """Of this one, from 1."""
    subjects: int
    """So many are known; more may appear in a run that trains."""
    stage: Stage
    """What is under way: tokens are scored, answers generated, choices ranked, or checks made."""
    done: int
    total: int
    """Of this stage; what was known is left out."""


@dataclass(frozen=True, slots=True)
class SubjectResult:
    """What came out for one subject on one file of samples."""

    subject: Evaluated
    data: Path
    summary: dict[str, Any]
    """As in summary.json."""
    samples: SampleResults = field(repr=False)
    """Of an endpoint those that it tells of."""
    shares: dict[str, SampleValues] = field(default_factory=dict[str, SampleValues], repr=False)
    """By checker: of each sample the share of its answers that are right; NaN where none could be judged."""


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What one task of lm-evaluation-harness gave for one subject."""

    subject: Subject
    task: str
    metrics: dict[str, float]
    """By name; the standard error of `acc` is `acc_stderr`. Another filter than none stands in brackets."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All results, in the order of the subjects."""

    folder: Path
    results: list[SubjectResult]
    skipped: list[Skipped]
    tasks: list[TaskResult] = field(default_factory=list[TaskResult])
    metadata: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)
    """As in metadata.json: `cost`, `endpoint` and `judges` say what it took, None where that is unknown."""

    def rows(self) -> list[dict[str, Any]]:
        """One row a subject and file, then one a subject and task, as in consolidated_metrics.csv."""
        of_tasks = [
            {"name": found.subject.name, "step": found.subject.step, "data": found.task, **found.metrics}
            for found in self.tasks
        ]
        return [
            {
                "name": result.subject.name,
                "step": result.subject.step,
                "data": result.data.name,
                **{k: v for k, v in result.summary.items() if not isinstance(v, (dict, list))},
            }
            for result in self.results
        ] + of_tasks

    def to_pandas(self) -> Any:
        """The same as a pandas DataFrame."""
        from pandas import DataFrame

        return DataFrame(self.rows())
