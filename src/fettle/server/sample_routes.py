"""Fixed evals sample by sample: the table of kinds and lengths, and what became of each sample."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query

from fettle.decide.history import Fate, SampleFates, sample_fates
from fettle.decide.pattern_table import pattern_table
from fettle.decide.patterns import length_edges, results_by_pattern
from fettle.metrics.patterns import length_bins, length_labels
from fettle.runs import RunReader
from fettle.runs.records import OTHER, FixedEval, SampleResults
from fettle.server.answer import Json
from fettle.server.context import Named, NamedRun
from fettle.server.shapes_detail import Patterns, Samples

router = APIRouter(prefix="/api/runs/{id}")
Step = Annotated[int | None, Query(description="Of the eval; by default the last one.")]


@router.get("/patterns", response_model=Patterns)
def patterns(named: NamedRun, step: Step = None) -> Json:
    """One fixed eval by kind of prompt and length of the answer. Cells without samples are absent."""
    with named.reading() as run:
        steps = run.sample_steps()
        chosen = step if step is not None else max(steps, default=None)
        return Json({"step": chosen, "steps": steps, **named.open.derived(
            "patterns", (run.segment, tuple(steps), chosen), lambda: _table(run, chosen)
        )})  # fmt: skip


@router.get("/samples", response_model=Samples)
def samples(
    named: NamedRun,
    step: Step = None,
    pattern: Annotated[str | None, Query(max_length=500)] = None,
    length: Annotated[
        str | None, Query(max_length=50, description="Label of a bin, such as 300-500.")
    ] = None,
    history: Annotated[Fate | None, Query(description="What became of it over all evals.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> Json:
    """Samples of one fixed eval, the worst cross-entropy first."""
    with named.reading() as run:
        steps = run.sample_steps()
        chosen = step if step is not None else max(steps, default=None)
        rows: list[dict[str, Any]] = named.open.derived(
            "samples", (run.segment, tuple(steps), chosen), lambda: _rows(named, run, chosen)
        )
    wanted = {"pattern": pattern, "length": length, "history": history}
    asked = {key: value for key, value in wanted.items() if value is not None}
    rows = [row for row in rows if all(row[key] == value for key, value in asked.items())]
    return Json({"step": chosen, "total": len(rows), "samples": rows[offset : offset + limit]})


def _table(run: RunReader, step: int | None) -> dict[str, Any]:
    results = None if step is None else run.samples(step)
    found = pattern_table(results_by_pattern(results, run.metadata()), run.metadata())
    if found is None:
        return {"lengths": [], "cells": [], "patterns": [], "columns": [], "weakest": [], "balance": None}
    renamed = {key: [_interval(cell) for cell in found[key]] for key in ("cells", "patterns", "columns")}
    return {**{key: found[key] for key in ("lengths", "weakest", "balance")}, **renamed}


def _interval(cell: dict[str, Any]) -> dict[str, Any]:
    renamed = {"exact_match_low": "low", "exact_match_high": "high"}
    return {renamed.get(key, key): value for key, value in cell.items()}


def _rows(named: Named, run: RunReader, step: int | None) -> list[dict[str, Any]]:
    results = None if step is None else run.samples(step)
    if results is None:
        return []
    key = (run.segment, tuple(run.sample_steps()))
    fates: SampleFates | None = named.open.derived("fates", key, lambda: sample_fates(_with_samples(run)))
    rows = _sample_rows(results, run)
    known = {} if fates is None else {id: row for row, id in enumerate(fates.sample_id.tolist())}
    for row in rows:
        place = known.get(row["sample_id"])
        row["history"] = None if fates is None or place is None else str(fates.fate[place])
        row["right_at"] = [] if fates is None or place is None else fates.right_steps(place)
    return sorted(rows, key=lambda row: -(row["cross_entropy"] or 0.0))


def _sample_rows(results: SampleResults, run: RunReader) -> list[dict[str, Any]]:
    edges = length_edges(run.metadata())
    labels = np.array(length_labels(edges))
    per_token = np.divide(
        results.cross_entropy_sum,
        results.tokens,
        out=np.full(results.tokens.size, np.nan),
        where=results.tokens > 0,
    )
    columns: dict[str, list[Any]] = {
        "sample_id": results.sample_id.tolist(),
        "pattern": np.where(results.pattern == "", OTHER, results.pattern).tolist(),
        "length": labels[length_bins(results.tokens, edges)].tolist(),
        "tokens": results.tokens.tolist(),
        "exact_match": results.exact_match.tolist(),
        "cross_entropy": [value if np.isfinite(value) else None for value in per_token.tolist()],
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _with_samples(run: RunReader) -> list[FixedEval]:
    return [e for e in run.evals() if e.per_sample is not None]
