"""The log of a run, folded."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query

from fettle.runs.log_lines import Level
from fettle.server.answer import Json
from fettle.server.context import NamedRun
from fettle.server.shapes import Lines

router = APIRouter(prefix="/api/runs/{id}")


@router.get("/logs", response_model=Lines)
def logs(
    named: NamedRun,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    offset: Annotated[int, Query(ge=-(10**9), le=10**9, description="Negative: from the end.")] = -100,
    level: Annotated[Level | None, Query(description="The least level.")] = None,
    q: Annotated[str, Query(description="Only lines that contain this.", max_length=1000)] = "",
) -> Json:
    """Lines of the log: bars and repetitions folded, terminal escapes taken out."""
    with named.reading() as run:
        lines = named.open.log(run.log_path)
        if lines is None:
            return Json({"total_lines": 0, "offset": 0, "lines": []})
        total, first, found = lines.select(limit, offset, level, q)
        return Json({"total_lines": total, "offset": first, "lines": [asdict(line) for line in found]})
