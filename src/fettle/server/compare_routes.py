"""Runs side by side: how their configurations differ, and whether their evals do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, cast

from fastapi import APIRouter, HTTPException, Query

from fettle.runs.records import FixedEval
from fettle.server.answer import Json, encode
from fettle.server.context import Named, Server, named, no_such_run
from fettle.server.shapes_detail import Compared

MOST_RUNS = 50

router = APIRouter(prefix="/api")


@router.get("/compare", response_model=Compared)
def compare(
    server: Server, ids: Annotated[str, Query(description="Ids of two runs or more, with commas.")]
) -> Json:
    """Keys that differ, and paired tests of the runs' fixed evals over the samples they share."""
    from fettle.decide.compare import compare_runs

    # An id may hold a comma: the longest that is known counts.
    chosen = _known(ids, {listed.id for listed in server.listing.runs()})
    if not 2 <= len(chosen) <= MOST_RUNS:
        raise HTTPException(422, f"name 2 to {MOST_RUNS} runs, with commas")
    runs = [named(server, id) for id in chosen]
    evals = {id: eval for id, run in zip(chosen, runs, strict=True) if (eval := _eval(run)) is not None}
    return Json(
        {
            "runs": chosen,
            "steps": [evals[id].step if id in evals else None for id in chosen],
            "configs": _differing([_config(run) for run in runs]),
            "tests": [comparison.to_json() for comparison in compare_runs(evals)],
        }
    )


def _known(ids: str, known: set[str]) -> list[str]:
    """Ids in a list with commas. Raises HTTPException (404) where one is of no run."""
    found: list[str] = []
    parts = ids.split(",")
    while parts:
        ends = [end for end in range(len(parts), 0, -1) if ",".join(parts[:end]) in known]
        if not ends:
            raise no_such_run()
        found.append(",".join(parts[: ends[0]]))
        parts = parts[ends[0] :]
    return list(dict.fromkeys(found))


def _eval(run: Named) -> FixedEval | None:
    """Of the verdict's choice, else the last one."""
    from fettle.server.judging import checkpoint_rows

    with run.reading() as reader:
        _, best = checkpoint_rows(run.open, reader)
        evals = reader.evals(per_sample=False)
        if not evals:
            return None
        steps = [e.step for e in evals]
        step = best if best in steps else steps[-1]
        return reader.eval_at(step)


def _config(run: Named) -> dict[str, Any]:
    with run.reading() as reader:
        return dict(_flat("", reader.config() or {}))


def _flat(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        items = cast("Mapping[Any, Any]", value).items()
        return [pair for key, item in items for pair in _flat(f"{prefix}{key}.", item)]
    return [(prefix.rstrip("."), value)]


def _differing(configs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    keys = dict.fromkeys(key for config in configs for key in config if key)
    rows = [{"key": key, "values": [config.get(key) for config in configs]} for key in keys]
    return [row for row in rows if len({encode(value) for value in row["values"]}) > 1]
