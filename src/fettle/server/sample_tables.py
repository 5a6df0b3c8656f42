"""Per-sample results of a run as plain rows and tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from fettle.decide.history import SampleFates, sample_fates
from fettle.decide.pattern_table import pattern_table
from fettle.decide.patterns import length_edges, results_by_pattern
from fettle.metrics.patterns import length_bins, length_labels
from fettle.runs import RunReader
from fettle.runs.records import OTHER, FixedEval, SampleResults
from fettle.server.open_run import OpenRun


def table(run: RunReader, step: int | None) -> dict[str, Any]:
    """The pattern table of one eval; empty where it has no per-sample results."""
    results = None if step is None else run.samples(step)
    found = pattern_table(results_by_pattern(results, run.metadata()), run.metadata())
    if found is None:
        return {"lengths": [], "cells": [], "patterns": [], "columns": [], "weakest": [], "balance": None}
    renamed = {key: [_interval(cell) for cell in found[key]] for key in ("cells", "patterns", "columns")}
    return {**{key: found[key] for key in ("lengths", "weakest", "balance")}, **renamed}


def _interval(cell: dict[str, Any]) -> dict[str, Any]:
    renamed = {"exact_match_low": "low", "exact_match_high": "high"}
    return {renamed.get(key, key): value for key, value in cell.items()}


def sample_rows(open_run: OpenRun, run: RunReader, step: int | None) -> list[dict[str, Any]]:
    """Samples of one eval with what became of them, the worst cross-entropy first."""
    results = None if step is None else run.samples(step)
    if results is None:
        return []
    key = (run.segment, tuple(run.sample_steps()))
    fates: SampleFates | None = open_run.derived("fates", key, lambda: sample_fates(_with_samples(run)))
    rows = _plain_rows(results, run)
    known = {} if fates is None else {id: row for row, id in enumerate(fates.sample_id.tolist())}
    for row in rows:
        place = known.get(row["sample_id"])
        row["history"] = None if fates is None or place is None else str(fates.fate[place])
        row["right_at"] = [] if fates is None or place is None else fates.right_steps(place)
    return sorted(rows, key=lambda row: -(row["cross_entropy"] or 0.0))


def _plain_rows(results: SampleResults, run: RunReader) -> list[dict[str, Any]]:
    edges = length_edges(run.metadata())
    labels = np.array(length_labels(edges))
    per_token = np.divide(
        results.cross_entropy_sum,
        results.tokens,
        out=np.full(results.tokens.size, np.nan),
        where=results.tokens > 0,
    )
    right_N = results.exact_match
    columns: dict[str, list[Any]] = {
        "sample_id": results.sample_id.tolist(),
        "pattern": np.where(results.pattern == "", OTHER, results.pattern).tolist(),
        "length": labels[length_bins(results.tokens, edges)].tolist(),
        "tokens": results.tokens.tolist(),
        "exact_match": [None] * results.tokens.size if right_N is None else right_N.tolist(),
        "cross_entropy": [value if np.isfinite(value) else None for value in per_token.tolist()],
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _with_samples(run: RunReader) -> list[FixedEval]:
    return [e for e in run.evals() if e.per_sample is not None]
