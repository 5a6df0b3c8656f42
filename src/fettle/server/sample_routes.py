"""Fixed evals sample by sample: the table of kinds and lengths, and what became of each sample."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from fettle.runs.numbers import LARGEST_EXACT
from fettle.server.answer import Json
from fettle.server.context import NamedRun
from fettle.server.shapes_detail import Patterns, Samples

router = APIRouter(prefix="/api/runs/{id}")
Fate = Literal["always", "learned", "forgotten", "never", "flipping"]
Step = Annotated[
    int | None,
    Query(description="Of the eval; by default the last one.", ge=-LARGEST_EXACT, le=LARGEST_EXACT),
]


@router.get("/patterns", response_model=Patterns)
def patterns(named: NamedRun, step: Step = None) -> Json:
    """One fixed eval by kind of prompt and length of the answer. Cells without samples are absent."""
    from fettle.server.sample_tables import table

    with named.reading() as run:
        steps = run.sample_steps()
        chosen = step if step is not None else max(steps, default=None)
        return Json({"step": chosen, "steps": steps, **named.open.derived(
            "patterns", (run.segment, tuple(steps), chosen), lambda: table(run, chosen)
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
    from fettle.server.sample_tables import sample_rows

    with named.reading() as run:
        steps = run.sample_steps()
        chosen = step if step is not None else max(steps, default=None)
        rows: list[dict[str, Any]] = named.open.derived(
            "samples", (run.segment, tuple(steps), chosen), lambda: sample_rows(named.open, run, chosen)
        )
    wanted = {"pattern": pattern, "length": length, "history": history}
    asked = {key: value for key, value in wanted.items() if value is not None}
    rows = [row for row in rows if all(row[key] == value for key, value in asked.items())]
    return Json({"step": chosen, "total": len(rows), "samples": rows[offset : offset + limit]})
