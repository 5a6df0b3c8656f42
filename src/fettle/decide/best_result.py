"""The result to use among several on the same samples: the first that cannot be told from the best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fettle.decide.paired import SampleValues, measured, pair_values


@dataclass(frozen=True, slots=True)
class BestResult:
    """Which one to use, and why this one."""

    name: str
    best: str
    """The one with the best value; the same as `name` unless an earlier one ties with it."""
    value: float
    """Of `name`."""
    tied: list[str]
    """All within one paired standard error of the best, in their order."""


def best_result(
    tables: Mapping[str, SampleValues],
    *,
    lower_is_better: bool,
    cross_entropy: Mapping[str, SampleValues] | None = None,
) -> BestResult | None:
    """The first within one paired standard error of the best, as the verdict of a run has it.

    Where `cross_entropy` is given, those that tie are narrowed to the ones within one standard error of the
    lowest among them. A table without values takes no part. None where the samples cannot be paired.
    """
    names, values = list(tables), list(tables.values())
    told = measured(values)
    path = pair_values(told, [values[place] for place in told])
    if path is None:
        return None
    means = path.means if lower_is_better else -path.means
    best = int(means.argmin())
    tied = [best]
    for column in range(len(path.steps)):
        error = path.difference(column, best)[1] if column != best and path.samples > 1 else 0.0
        if column != best and math.isfinite(error) and means[column] - means[best] <= error * (1 + 1e-9):
            tied.append(column)
    tied.sort()
    kept = [names[path.steps[column]] for column in tied]
    name = kept[0]
    if cross_entropy is not None:
        second = best_result({name: cross_entropy[name] for name in kept}, lower_is_better=True)
        name = second.name if second is not None else name
    value = float(path.means[path.steps.index(names.index(name))])
    return BestResult(name, names[path.steps[best]], value, kept)
