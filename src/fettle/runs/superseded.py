"""The event log without what a resume superseded, still in its order."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Any

from fettle.runs.table import EventTable

KEPT = frozenset({"start", "resume"})
"""Types that no resume supersedes: they say what happened to the run as a whole."""


def standing_records(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records that still count, by the rules of `EventTable`, across all types in the order of the log.

    A `resume` at step S drops every earlier row of a later step; a second row of the same step
    and type replaces the first wherever steps are unique.
    """
    # From the end: what a row has to stay below is then known when the row is met.
    standing: list[dict[str, Any]] = []
    resumed_at = inf
    told_again: dict[str, float] = {}
    for record in reversed(list(records)):
        type, step = str(record.get("type", "")), record.get("step")
        if not isinstance(step, (int, float)):
            standing.append(record)
            continue
        superseded = type not in KEPT and step > resumed_at
        if not superseded and step < told_again.get(type, inf):
            standing.append(record)
        if type == "resume":
            resumed_at = min(resumed_at, step)
        if type in EventTable.UNIQUE:
            told_again[type] = min(told_again.get(type, inf), step)
    return standing[::-1]
