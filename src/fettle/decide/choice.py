"""Which checkpoint to use: the earliest that cannot be told from the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fettle.decide.paired import Metric, pair
from fettle.runs.records import Checkpoint, FixedEval


@dataclass(frozen=True, slots=True)
class Choice:
    """The checkpoint to use, and why this one."""

    step: int
    path: Path | str
    """Its folder, or the URL under which a service keeps it."""
    metric: Metric
    """What it was chosen by."""
    value: float
    """The metric at `step`."""
    best_step: int
    """The best eval that has a checkpoint; the same as `step` unless an earlier one ties with it."""
    best_value: float
    standard_error: float | None
    """Paired, of the difference between the two; None where there is no spread to judge by."""
    tied_steps: list[int]
    """All checkpoints that cannot be told from the best, earliest first."""
    unsaved_best_step: int | None
    """A better eval whose checkpoint is not on disk."""
    explanation: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "path": str(self.path)}


def choose_checkpoint(evals: Sequence[FixedEval], checkpoints: Sequence[Checkpoint]) -> Choice | None:
    """The earliest checkpoint on disk within one paired standard error of the best.

    By exact match; among those that tie, the ones within one standard error of their lowest
    cross-entropy; of these, the earliest. By cross-entropy alone where exact match was not measured
    or says nothing, being the same everywhere. None where no eval has a checkpoint
    on disk or with a service.
    """
    on_disk = {c.step: c.location for c in checkpoints if c.location is not None}
    measured = sorted((e for e in evals if _finite(e.cross_entropy) or _finite(e.exact_match)), key=_step)
    eligible = [e for e in measured if e.step in on_disk]
    if not eligible:
        return None
    metric = _metric(eligible)
    eligible = [e for e in eligible if _finite(getattr(e, metric))]
    if not eligible:
        return None
    best = _best(eligible, metric)
    tied = _tied(eligible, best, metric)
    if metric == "exact_match":
        tied = _break_by_cross_entropy(tied)
    # Breaking the tie may have dropped the best itself; the earliest of those left is the choice.
    chosen = tied[0]
    path = on_disk[chosen.step]
    unsaved = _unsaved_best(measured, best, metric, set(on_disk))
    return Choice(
        step=chosen.step,
        path=path,
        metric=metric,
        value=float(getattr(chosen, metric)),
        best_step=best.step,
        best_value=float(getattr(best, metric)),
        standard_error=_standard_error(best, chosen, metric),
        tied_steps=[e.step for e in tied],
        unsaved_best_step=unsaved,
        explanation=_explain(chosen, best, tied, metric, eligible, unsaved),
    )


def _metric(eligible: Sequence[FixedEval]) -> Metric:
    measured = [e.exact_match for e in eligible if _finite(e.exact_match)]
    # Half measured cannot rank the other half; the same everywhere (0 %, as a rule) cannot rank at all.
    if len(measured) < len(eligible) or (len(set(measured)) == 1 and len(eligible) > 1):
        return "cross_entropy" if any(_finite(e.cross_entropy) for e in eligible) else "exact_match"
    if measured == [0.0] and _finite(eligible[0].cross_entropy):
        return "cross_entropy"
    return "exact_match"


def best_first(evals: Sequence[FixedEval], metric: Metric) -> list[FixedEval]:
    """Evals that measured the metric, best first; the earlier of two that are equal."""

    def rank(e: FixedEval) -> tuple[float, float, int]:
        cross_entropy = e.cross_entropy if e.cross_entropy is not None else math.inf
        return -(e.exact_match or 0.0) if metric == "exact_match" else 0.0, cross_entropy, e.step

    return sorted((e for e in evals if _finite(getattr(e, metric))), key=rank)


def _best(eligible: Sequence[FixedEval], metric: Metric) -> FixedEval:
    return best_first(eligible, metric)[0]


def _tied(evals: Sequence[FixedEval], best: FixedEval, metric: Metric) -> list[FixedEval]:
    """Evals within one standard error of the best, earliest first; the best is always one."""
    tied: list[FixedEval] = []
    for e in evals:
        distance = abs(float(getattr(e, metric)) - float(getattr(best, metric)))
        error = _standard_error(best, e, metric) or 0.0
        if e is best or distance <= error * (1 + 1e-9):
            tied.append(e)
    return tied


def _break_by_cross_entropy(tied: list[FixedEval]) -> list[FixedEval]:
    measured = [e for e in tied if _finite(e.cross_entropy)]
    if len(measured) < 2:
        return tied
    return _tied(measured, _best(measured, "cross_entropy"), "cross_entropy")


def _standard_error(a: FixedEval, b: FixedEval, metric: Metric) -> float | None:
    """Of the difference of two evals: paired on their samples, else from the shares alone."""
    if a is b:
        return 0.0
    path = pair([a, b], metric)
    if path is not None and len(path.steps) == 2 and path.samples > 1:
        return path.difference(1, 0)[1]
    if metric == "exact_match" and a.samples and a.exact_match is not None:
        # Without pairs: the best's own binomial error, the usual one-standard-error rule.
        return math.sqrt(a.exact_match * (1 - a.exact_match) / a.samples)
    return None


def _unsaved_best(
    measured: Sequence[FixedEval], best: FixedEval, metric: Metric, on_disk: set[int]
) -> int | None:
    candidates = [e for e in measured if _finite(getattr(e, metric))]
    overall = _best(candidates, metric)
    if overall.step in on_disk or getattr(overall, metric) == getattr(best, metric):
        return None
    return overall.step


def _explain(
    chosen: FixedEval,
    best: FixedEval,
    tied: list[FixedEval],
    metric: Metric,
    eligible: Sequence[FixedEval],
    unsaved: int | None,
) -> str:
    number = _exact_match(best) if metric == "exact_match" else f"CE {best.cross_entropy:.4f}"
    if chosen is best:
        text = f"checkpoint-{chosen.step} is the best of {len(eligible)} by {number}"
    elif chosen.step < best.step:
        text = (
            f"checkpoint-{chosen.step} is tied with the best, {best.step} ({number}), within one "
            f"standard error; {chosen.step} is earlier"
        )
    else:
        text = (
            f"checkpoint-{chosen.step} is tied with the best, {best.step} ({number}), within one "
            f"standard error, and has the lower cross-entropy ({chosen.cross_entropy:.4f})"
        )
    if metric == "exact_match" and chosen is best and len(tied) == 1 and _ties_by_exact_match(eligible, best):
        text += f", and the lowest cross-entropy of those that tie ({chosen.cross_entropy:.4f})"
    if metric == "cross_entropy" and not _has_spread(eligible):
        text += "; without per-sample results there is no standard error to call a tie by"
    if unsaved is not None:
        text += f"; step {unsaved} was better, but its checkpoint is not on disk"
    return text


def _ties_by_exact_match(eligible: Sequence[FixedEval], best: FixedEval) -> bool:
    return len(_tied(eligible, best, "exact_match")) > 1 and _finite(best.cross_entropy)


def _has_spread(eligible: Sequence[FixedEval]) -> bool:
    return len(eligible) < 2 or any(e.per_sample is not None for e in eligible)


def _exact_match(e: FixedEval) -> str:
    return f"EM {100 * (e.exact_match or 0.0):.1f} %"


def _step(e: FixedEval) -> int:
    return e.step


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
