"""What a verdict is given, and what it finds in it before it decides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.decide.calibration import CalibrationDrift, calibration_drift
from fettle.decide.choice import Choice, choose_checkpoint
from fettle.decide.comparability import Comparability, loss_comparability
from fettle.decide.history import SampleHistory, sample_history
from fettle.decide.next_data import NextData, recommend_data
from fettle.decide.overfitting import Overfitting, overfitting
from fettle.decide.patterns import (
    PatternResult,
    pattern_results,
    results_by_pattern,
    weak_cell,
    weakest_pattern,
)
from fettle.decide.trend import Trend, trend
from fettle.metrics.patterns import PatternMatrix
from fettle.runs.concept_drift import ConceptDrift
from fettle.runs.records import Checkpoint, FixedEval, LayerActivity, State


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """All that is known of a run when it is judged."""

    name: str
    state: State
    evals: Sequence[FixedEval]
    checkpoints: Sequence[Checkpoint]
    train: Mapping[str, NDArray[np.float64]]
    """Columns of the train records."""
    early_stop: Mapping[str, Any] | None = None
    """The `early_stop` record of a run that stopped early."""
    end: Mapping[str, Any] | None = None
    """The last `end` record."""
    alerts: Sequence[Mapping[str, Any]] = ()
    """Those that are not resolved."""
    config: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None
    layers: LayerActivity | None = None
    """The last measurement of how far the layers moved."""
    concepts: ConceptDrift | None = None
    """What `fettle lens drift` found."""


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """What the evidence shows, before anything is decided."""

    run: Evidence
    evals: list[FixedEval]
    """In order of steps."""
    exact_match: Trend
    cross_entropy: Trend
    choice: Choice | None
    judged: FixedEval | None
    """The eval whose numbers are shown: of the chosen checkpoint, else the last."""
    comparability: Comparability
    overfitting: Overfitting | None
    history: SampleHistory | None = None
    drift: CalibrationDrift | None = None
    matrix: PatternMatrix | None = None
    """Results of the judged eval by kind of prompt and length of the answer."""
    patterns: list[PatternResult] = field(default_factory=list[PatternResult])
    weakest: PatternResult | None = None
    weak_cell: PatternResult | None = None
    """Where inside the weakest pattern, or at all, one length stands out."""
    next_data: NextData | None = None

    @property
    def critical(self) -> list[Mapping[str, Any]]:
        """Alerts that say training went wrong."""
        return [a for a in self.run.alerts if a.get("level") == "critical"]

    @property
    def exact_match_tells(self) -> bool:
        """Whether exact match was measured and differs between evals: the same everywhere says nothing."""
        measured = {e.exact_match for e in self.evals if e.exact_match is not None}
        return bool(measured) and (len(measured) > 1 or measured not in ({0.0}, {1.0}))


def find(run: Evidence) -> Findings:
    """Everything a verdict rests on, from the evidence."""
    evals = sorted(run.evals, key=lambda e: e.step)
    choice = choose_checkpoint(evals, run.checkpoints)
    judged = _judged(evals, choice)
    comparability = loss_comparability(run.train, evals)
    cross_entropy = trend(evals, "cross_entropy")
    samples = judged.per_sample if judged else None
    matrix = results_by_pattern(samples, run.metadata)
    patterns = pattern_results(matrix)
    weakest = weakest_pattern(patterns)
    cell = weak_cell(matrix, weakest.pattern if weakest else None)
    weak = cell or weakest
    return Findings(
        run=run,
        evals=evals,
        exact_match=trend(evals, "exact_match"),
        cross_entropy=cross_entropy,
        choice=choice,
        judged=judged,
        comparability=comparability,
        overfitting=overfitting(evals, run.train, cross_entropy),
        history=sample_history(evals),
        drift=calibration_drift(evals),
        matrix=matrix,
        patterns=patterns,
        weakest=weakest,
        weak_cell=cell,
        next_data=recommend_data(samples, weak, _first_matrix(run, evals), run.metadata)
        if weak and samples
        else None,
    )


def _first_matrix(run: Evidence, evals: Sequence[FixedEval]) -> PatternMatrix | None:
    first = next((e.per_sample for e in evals if e.per_sample is not None), None)
    return results_by_pattern(first, run.metadata)


def _judged(evals: Sequence[FixedEval], choice: Choice | None) -> FixedEval | None:
    if choice is not None:
        return next(e for e in evals if e.step == choice.step)
    measured = [e for e in evals if _finite(e.cross_entropy) or _finite(e.exact_match)]
    return measured[-1] if measured else None


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
