"""Downloads of everything that a run measured."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from fettle.server.answer import encode
from fettle.server.context import NamedRun

ROWS = 5_000

router = APIRouter(prefix="/api/runs/{id}")


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/json": {}, "text/csv": {}}, "description": "A file."}},
)
def export(
    named: NamedRun,
    format: Annotated[Literal["json", "csv"], Query()] = "json",
    type: Annotated[
        str | None, Query(max_length=200, description="All types by default; csv: train.")
    ] = None,
) -> StreamingResponse:
    """All records of a run as JSON, or the numbers of one record type as CSV, superseded rows left out."""
    with named.reading() as run:
        if format == "csv":
            type = type or "train"
            columns = {name: column.tolist() for name, column in run.columns(type).items()}
            chunks, media = _csv(columns), "text/csv; charset=utf-8"
        else:
            types = [type] if type else list(run.counts())
            chunks, media = _json(named.listed.id, {t: run.records(t) for t in types}), "application/json"
    name = re.sub(r"[^A-Za-z0-9._-]", "_", f"{named.listed.id}{'-' + type if type else ''}")[:150]
    disposition = f'attachment; filename="{name}.{format}"'
    return StreamingResponse(chunks, media_type=media, headers={"Content-Disposition": disposition})


def _json(id: str, records: dict[str, list[dict[str, Any]]]) -> Iterator[bytes]:
    """One document, a few thousand records at a time."""
    yield b'{"run":' + encode(id) + b',"records":{'
    for place, (type, rows) in enumerate(records.items()):
        yield (b"," if place else b"") + encode(type) + b":["
        for first in range(0, len(rows), ROWS):
            yield (b"," if first else b"") + encode(rows[first : first + ROWS])[1:-1]
        yield b"]"
    yield b"}}"


def _csv(columns: dict[str, list[float]]) -> Iterator[str]:
    """A header and one line a row; a number that was not measured is empty."""
    yield _line([_cell(name) for name in columns])
    batch: list[str] = []
    for row in zip(*columns.values(), strict=True):
        batch.append(_line(["" if value != value else repr(value).removesuffix(".0") for value in row]))
        if len(batch) == ROWS:
            yield "".join(batch)
            batch.clear()
    yield "".join(batch)


def _line(cells: list[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()


def _cell(name: str) -> str:
    """A column's name, where a spreadsheet would not take it for a formula."""
    clean = name.encode("utf-8", "replace").decode("utf-8")
    return f"'{clean}" if clean.startswith(("=", "+", "-", "@", "\t", "\r")) else clean
