"""Whether others are worse than a baseline on the same samples, as many of them as are looked at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fettle.decide.compare import holm, mcnemar_two_sided
from fettle.decide.paired import PairedPath, SampleValues, largest_under_flips, measured, pair_values

Outcome = Literal["improved", "regressed", "equivalent", "undecided"]
CROSS_ENTROPY = "cross_entropy"
"""The one metric that is better when it is lower."""
MARGIN = 0.005
"""Changes up to this are not worth having: a share of samples, nats per token."""
ALPHA = 0.05
POWER_QUANTILE = 0.8416212335729143
"""Of the normal distribution, for a power of 80 %."""


@dataclass(frozen=True, slots=True)
class Change:
    """One metric of one candidate against the baseline."""

    name: str
    baseline: str
    metric: str
    outcome: Outcome
    difference: float | None
    """Candidate minus baseline: of cross-entropy in nats per token, of all others as a share."""
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
    baseline: tuple[str, SampleValues],
    candidates: Mapping[str, SampleValues],
    metric: str,
    *,
    margin: float | None = None,
    noise: float = 0.0,
    alpha: float = ALPHA,
    seed: int = 0,
) -> list[Change]:
    """Every candidate against the baseline, in their order.

    A change counts where it is significant for all candidates together and larger than the margin, which
    is never below `noise`, the difference of two runs of the same weights. What is right or wrong is tested
    by McNemar's exact test with Holm's correction; cross-entropy and shares of several answers by the
    largest of all studentised differences under random signs of the samples' residuals (max-T, Westfall and
    Young 1993). Equivalent
    is what the 1 - 2 alpha interval keeps within the margin (two one-sided tests, Schuirmann 1987).
    """
    margin = max(MARGIN if margin is None else margin, noise)
    tables = [*candidates.values(), baseline[1]]
    told = measured(tables)
    path = pair_values(told, [tables[place] for place in told])
    places = {step: column for column, step in enumerate(path.steps)} if path is not None else {}
    base = places.get(len(tables) - 1)
    shared = [place for place in range(len(candidates)) if place in places]
    if path is None or base is None or not shared:
        return [_apart(name, baseline[0], metric, margin) for name in candidates]

    columns = [places[place] for place in shared]
    found = [_difference(path, column, base, metric) for column in columns]
    largest = _largest(path, columns, base, seed)
    wide, narrow = (_half_width(largest, level) for level in (alpha, 2 * alpha))
    if metric != CROSS_ENTROPY and _is_binary(path):
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


def flips(before: SampleValues, after: SampleValues) -> tuple[list[str], list[str]]:
    """Ids of samples that became right, and of those that became wrong; of several answers, most of them."""
    was, now = _right(before), _right(after)
    shared = [name for name in was if name in now]
    gained = [name for name in shared if now[name] and not was[name]]
    return gained, [name for name in shared if was[name] and not now[name]]


def _right(table: SampleValues) -> dict[str, bool]:
    pairs = zip(table.sample_id.tolist(), table.values.tolist(), strict=True)
    return {sample: value > 0.5 for sample, value in pairs if math.isfinite(value)}


def _is_binary(path: PairedPath) -> bool:
    return bool(np.isin(path.values, (0.0, 1.0)).all())


def _difference(path: PairedPath, column: int, base: int, metric: str) -> tuple[float, float]:
    """Change and its standard error, over samples.

    Where few samples differ their spread says too little: ten equal answers are no proof of equal skill. Of
    what is right or wrong the error is therefore that of Bonett and Price (2012, J. Educ. Behav. Stat. 37),
    with one more sample gained and one more lost; of other shares it is never below that of no change.
    """
    value, error = path.difference(column, base)
    n = path.samples
    if metric == CROSS_ENTROPY:
        return value, error
    if not _is_binary(path):
        return value, max(error, math.sqrt(2) / (n + 2))
    change_N = path.values[:, column] - path.values[:, base]
    gained, lost = (np.count_nonzero(change_N == way) + 1 for way in (1, -1))
    variance = ((gained + lost) / (n + 2) - ((gained - lost) / (n + 2)) ** 2) / (n + 2)
    return value, math.sqrt(variance)


def _outcome(
    metric: str, value: float, error: float, p: float, margin: float, narrow: float, alpha: float
) -> Outcome:
    if p < alpha and abs(value) > margin:
        better = (value < 0) == (metric == CROSS_ENTROPY)
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


def _half_width(largest: NDArray[np.float64], level: float) -> float:
    """Standard errors on either side of an interval; one comparison alone needs the normal quantile."""
    from scipy import special

    return max(float(np.quantile(largest, 1 - level)), float(special.ndtri(1 - level / 2)))


def _exceeding(largest: NDArray[np.float64], value: float, error: float) -> float:
    """Share of the resamples with a larger z; the observed one counts as one of them."""
    if not math.isfinite(error):
        return 1.0
    if error == 0:
        return 1.0 if value == 0 else 0.0
    above = int(np.count_nonzero(largest >= abs(value) / error))
    return (above + 1) / (largest.size + 1)


def _apart(name: str, baseline: str, metric: str, margin: float) -> Change:
    reason = "no sample was measured in both"
    return Change(name, baseline, metric, "undecided", None, None, None, None, margin, 0, None, reason)
