"""Whether others are worse than a baseline on the same samples, as many of them as are looked at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fettle.decide.compare import holm, mcnemar_two_sided
from fettle.decide.paired import Metric, PairedPath, largest_under_flips, pair
from fettle.runs.records import FixedEval, SampleResults

Outcome = Literal["improved", "regressed", "equivalent", "undecided"]
MARGINS: dict[Metric, float] = {"exact_match": 0.005, "cross_entropy": 0.005}
"""Changes up to these are not worth having: a share of samples, nats per token."""
ALPHA = 0.05
POWER_QUANTILE = 0.8416212335729143
"""Of the normal distribution, for a power of 80 %."""


@dataclass(frozen=True, slots=True)
class Change:
    """One metric of one candidate against the baseline."""

    name: str
    baseline: str
    metric: Metric
    outcome: Outcome
    difference: float | None
    """Candidate minus baseline: of exact match as a share, of cross-entropy in nats per token."""
    low: float | None
    """95 % interval that holds for all candidates at once."""
    high: float | None
    p_adjusted: float | None
    """Two-sided, corrected for the number of candidates."""
    margin: float
    samples: int
    """Shared by all that are compared."""
    needed: int | None = None
    """Samples that could tell a change of the margin from none in four of five cases, where undecided."""
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def changes(
    baseline: tuple[str, SampleResults],
    candidates: Mapping[str, SampleResults],
    metric: Metric,
    *,
    margin: float | None = None,
    noise: float = 0.0,
    alpha: float = ALPHA,
    seed: int = 0,
) -> list[Change]:
    """Every candidate against the baseline, in their order.

    A change counts where it is significant for all candidates together and larger than the margin, which
    is never below `noise`, the difference of two runs of the same weights. Exact match is tested by
    McNemar's exact test with Holm's correction; cross-entropy by the largest of all studentised
    differences under random signs of the samples' residuals (max-T, Westfall and Young 1993). Equivalent
    is what the 1 - 2 alpha interval keeps within the margin (two one-sided tests, Schuirmann 1987).
    """
    margin = max(MARGINS[metric] if margin is None else margin, noise)
    tables = [*candidates.values(), baseline[1]]
    path = pair([_eval(place, table, metric) for place, table in enumerate(tables)], metric)
    places = {step: column for column, step in enumerate(path.steps)} if path is not None else {}
    base = places.get(len(tables) - 1)
    shared = [place for place in range(len(candidates)) if place in places]
    if path is None or base is None or not shared:
        return [_apart(name, baseline[0], metric, margin) for name in candidates]

    columns = [places[place] for place in shared]
    found = [path.difference(column, base) for column in columns]
    largest = _largest(path, columns, base, seed)
    wide, narrow = (float(np.quantile(largest, 1 - level)) for level in (alpha, 2 * alpha))
    if metric == "exact_match":
        adjusted = holm([mcnemar_two_sided(path, column, base) for column in columns])
    else:
        adjusted = [_exceeding(largest, value, error) for value, error in found]
    results = {}
    for place, (value, error), p in zip(shared, found, adjusted, strict=True):
        outcome = _outcome(metric, value, error, p, margin, narrow, alpha)
        needed = _needed(path.samples, error, margin, wide) if outcome == "undecided" else None
        results[place] = Change(
            name=list(candidates)[place],
            baseline=baseline[0],
            metric=metric,
            outcome=outcome,
            difference=value,
            low=value - wide * error if math.isfinite(error) else None,
            high=value + wide * error if math.isfinite(error) else None,
            p_adjusted=p,
            margin=margin,
            samples=path.samples,
            needed=needed,
        )
    return [
        results.get(place) or _apart(name, baseline[0], metric, margin)
        for place, name in enumerate(candidates)
    ]


def flips(before: SampleResults, after: SampleResults) -> tuple[list[str], list[str]]:
    """Ids of samples that became right, and of those that became wrong."""
    was = dict(zip(before.sample_id.tolist(), before.exact_match.tolist(), strict=True))
    now = dict(zip(after.sample_id.tolist(), after.exact_match.tolist(), strict=True))
    shared = [name for name in was if name in now]
    gained = [name for name in shared if now[name] and not was[name]]
    return gained, [name for name in shared if was[name] and not now[name]]


def _outcome(
    metric: Metric, value: float, error: float, p: float, margin: float, narrow: float, alpha: float
) -> Outcome:
    if p < alpha and abs(value) > margin:
        better = value > 0 if metric == "exact_match" else value < 0
        return "improved" if better else "regressed"
    if math.isfinite(error) and abs(value) + narrow * error <= margin:
        return "equivalent"
    return "undecided"


def _needed(samples: int, error: float, margin: float, wide: float) -> int | None:
    if not math.isfinite(error) or margin <= 0:
        return None
    return max(samples + 1, math.ceil(samples * ((wide + POWER_QUANTILE) * error / margin) ** 2))


def _largest(path: PairedPath, columns: list[int], base: int, seed: int) -> NDArray[np.float64]:
    """The largest |z| of any candidate, were all equal to the baseline, [resamples]."""
    contrast_NK = path.values[:, columns] - path.values[:, [base]]
    residual_NK = contrast_NK - contrast_NK.sum(0) / path.weights.sum() * path.weights[:, None]
    return largest_under_flips(residual_NK, seed=seed, both_sides=True)


def _exceeding(largest: NDArray[np.float64], value: float, error: float) -> float:
    """Share of the resamples with a larger z; the observed one counts as one of them."""
    if not math.isfinite(error):
        return 1.0
    if error == 0:
        return 1.0 if value == 0 else 0.0
    above = int(np.count_nonzero(largest >= abs(value) / error))
    return (above + 1) / (largest.size + 1)


def _eval(place: int, table: SampleResults, metric: Metric) -> FixedEval:
    return FixedEval(step=place, **{metric: 0.0}, per_sample=table)  # pyright: ignore[reportArgumentType]


def _apart(name: str, baseline: str, metric: Metric, margin: float) -> Change:
    reason = "no per-sample results of the same samples"
    return Change(name, baseline, metric, "undecided", None, None, None, None, margin, 0, None, reason)
