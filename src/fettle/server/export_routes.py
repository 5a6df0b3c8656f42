"""Downloads of everything that a run measured, put together while they are sent."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from fettle.errors import RunError
from fettle.server.answer import download, encode
from fettle.server.context import Named, NamedRun

ROWS = 5_000
MOST_CELLS = 500_000
"""Of a block of lines: a run may have thousands of columns."""

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
    """All records of a run as JSON, or the numbers of one record type as CSV, superseded rows left out.

    A run that is resumed meanwhile breaks the download off: half of it would be of rows that no longer count.
    """
    with named.reading() as run:
        types = [type] if type else list(run.counts())
        segment = run.segment
    if format == "csv":
        type = type or "train"
        chunks, media = _csv(named, type, segment), "text/csv; charset=utf-8"
    else:
        chunks, media = _json(named, types, segment), "application/json"
    name = f"{named.listed.id}{'-' + type if type else ''}.{format}"
    return StreamingResponse(chunks, media_type=media, headers=download(name))


def _json(named: Named, types: list[str], segment: str) -> Iterator[bytes]:
    """One document, a few thousand records at a time."""
    yield b'{"run":' + encode(named.listed.id) + b',"records":{'
    for place, type in enumerate(types):
        yield (b"," if place else b"") + encode(type) + b":["
        first = 0
        while rows := _records(named, type, segment, first):
            yield (b"," if first else b"") + encode(rows)[1:-1]
            first += len(rows)
        yield b"]"
    yield b"}}"


def _records(named: Named, type: str, segment: str, first: int) -> list[dict[str, Any]]:
    with named.reading() as run:
        _require(run.segment == segment)
        return run.records_between(type, first, first + ROWS)


def _csv(named: Named, type: str, segment: str) -> Iterator[str | bytes]:
    """A header and one line a row; a number that was not measured is empty."""
    with named.reading() as run:
        names, rows = list(run.columns(type)), run.counts().get(type, 0)
    yield _line([_cell(name) for name in names])
    step = max(1, min(ROWS, MOST_CELLS // max(1, len(names))))
    for first in range(0, rows if names else 0, step):
        with named.reading() as run:
            _require(run.segment == segment)
            block = run.part(type, names, first, min(rows, first + step))
        yield _lines(block)


def _require(unchanged: bool) -> None:
    if not unchanged:
        raise RunError("the run was resumed while it was downloaded")


def _lines(columns: list[list[float]]) -> bytes:
    """Rows of numbers, in the fewest digits that give them back; they need no quotes."""
    rows = orjson.dumps(list(zip(*columns, strict=True)))[2:-2].replace(b"],[", b"\n") + b"\n"
    # A row of nothing but one empty cell would be no row.
    missing = b"" if len(columns) > 1 else b'""'
    return rows.replace(b".0,", b",").replace(b".0\n", b"\n").replace(b"null", missing)


def _line(cells: list[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()


def _cell(name: str) -> str:
    """A column's name, where a spreadsheet would not take it for a formula."""
    clean = name.encode("utf-8", "replace").decode("utf-8")
    return f"'{clean}" if clean.startswith(("=", "+", "-", "@", "\t", "\r")) else clean
