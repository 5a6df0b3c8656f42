"""The trend that a trainer tested on its samples, as it stands in the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

from fettle.decide.paired import Metric
from fettle.decide.trend import Trend

STATES = {"improving", "plateau", "regressing", "insufficient"}


def tested_trend(record: Mapping[str, Any], metric: Metric) -> Trend | None:
    """`exact_match_trend` or `cross_entropy_trend` of a fixed eval; None where it holds none."""
    logged: Any = record.get(f"{metric}_trend")
    if not isinstance(logged, Mapping):
        return None
    known = cast("Mapping[str, Any]", logged)
    if known.get("state") not in STATES:
        return None
    unknown = {"since_step": None, "p_value": None, "effect": None, "interval": None, "evals": 0}
    given = {f.name: known[f.name] for f in fields(Trend) if f.name in known}
    values: Any = {**unknown, "explanation": "", **given, "metric": metric}
    return Trend(**values)
