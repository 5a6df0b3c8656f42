"""Numbers of a run: columns from a cursor on, curves as buckets, fixed evals."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import Response

from fettle.errors import FettleError
from fettle.runs.numbers import number
from fettle.runs.records import FixedEval
from fettle.server.answer import Json
from fettle.server.context import NamedRun, Server
from fettle.server.context import named as open_named
from fettle.server.cursor import cursor_of, place_after
from fettle.server.shapes import Evals, Metrics

FIELDS = (
    "x_first", "x_last", "min", "max", "mean", "count", "nonfinite_count", "nan_count", "inf_count",
    "minus_inf_count",
)  # fmt: skip
DEFAULT_FIELDS = ",".join(FIELDS[:7])
_ONE_OF = "|".join(FIELDS)
FIELD_LIST = f"^({_ONE_OF})(,({_ONE_OF}))*$"
MOST_VALUES = 5_000_000
"""Of one answer, over all its columns."""

BYTES = "application/octet-stream"
BINARY: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {BYTES: {"schema": {"type": "string", "format": "binary"}}},
        "description": "Little-endian float64, X-Fields values a row.",
    }
}
MOST_RUNS = 100

router = APIRouter(prefix="/api/runs/{id}")
many_router = APIRouter(prefix="/api")
Type = Annotated[str, Query(description="Record type: train, fixed_eval, system, ...", max_length=200)]
Column = Annotated[str, Query(description="Column of the curve.", max_length=1000)]
Axis = Annotated[str, Query(description="Column of its axis.", max_length=1000)]
Start = Annotated[float | None, Query(alias="from", description="Least x.")]
Stop = Annotated[float | None, Query(alias="to", description="Greatest x.")]
Width = Annotated[int, Query(ge=1, le=20_000, description="Most buckets of a curve.")]
Fields = Annotated[
    str, Query(description="Of each bucket, with commas.", json_schema_extra={"pattern": FIELD_LIST})
]


@router.get("/metrics", response_model=Metrics)
def metrics(
    named: NamedRun,
    type: Type = "train",
    columns: Annotated[str | None, Query(description="Names, with commas; all by default.")] = None,
    since: Annotated[str | None, Query(description="The cursor of the answer before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1_000_000, description="Most rows of one answer.")] = 100_000,
) -> Json:
    """Columns of one record type, only what is new since a cursor; null is not measured."""
    with named.reading() as run:
        found, order = run.columns(type), run.order(type)
        names = list(found) if columns is None else [name for name in columns.split(",") if name in found]
        limit = min(limit, max(1, MOST_VALUES // max(1, len(names))))
        place = place_after(since, run)
        first = 0 if place is None else int(order.searchsorted(place))
        rows = slice(first, first + limit)
        more = first + limit < order.size
        cursor = f"{run.segment}:{int(order[first + limit])}" if more else cursor_of(run)
        answer: dict[str, Any] = {
            "cursor": cursor,
            "rewound": since is not None and place is None,
            "more": more,
            "columns": {name: found[name][rows] for name in names},
        }
        return Json(answer)


@router.get("/series", responses=BINARY, response_class=Response)
def series(
    named: NamedRun,
    y: Column = "loss",
    x: Axis = "step",
    type: Type = "train",
    start: Start = None,
    stop: Stop = None,
    width: Width = 1000,
    fields: Fields = DEFAULT_FIELDS,
    compact: Annotated[bool, Query(description="For drawing: a sixth of the bytes, seven digits.")] = False,
) -> Response:
    """A curve in at most `width` buckets with exact extremes, or its rows where there are no more of them.

    Fields: x_first, x_last, min, max, mean, count, nonfinite_count, nan_count, inf_count, minus_inf_count.
    Headers: X-Rows, X-Fields, X-Raw (1: each bucket is one row), X-Cursor (for metrics and the stream).
    A column that the run lacks gives no rows. Where `compact` is asked for: X-Type (float32, or float64 of
    what it cannot hold), X-Origin (to be added to x), no fields that count nothing, no extremes of single
    rows, and half as many buckets where extremes are asked for: each has two.
    """
    names = _field_names(fields)
    with named.reading() as run:
        from fettle.server.series import curve

        found = curve(run, type, x, y, width, start, stop, names, drawn=compact)
        cursor = cursor_of(run)
    body, headers = found.compact() if compact else found.packed()
    return Response(body, media_type=BYTES, headers={**headers, "X-Cursor": cursor})


@many_router.get("/series", responses=BINARY, response_class=Response)
def many_series(
    server: Server,
    ids: Annotated[list[str], Query(description="Id of a run, as often as there are.", max_length=MOST_RUNS)],
    y: Column = "loss",
    x: Axis = "step",
    type: Type = "train",
    start: Start = None,
    stop: Stop = None,
    width: Width = 1000,
    fields: Fields = DEFAULT_FIELDS,
) -> Response:
    """The same curve of several runs, one after the other, as /api/runs/{id}/series has them.

    Headers: X-Rows and X-Raw of each, with commas; X-Fields. Of a run that is gone, or cannot be read, there
    are no rows.
    """
    from fettle.server.series import Curve, curve

    names = _field_names(fields)
    found: list[Curve] = []
    for id in ids:
        try:
            with open_named(server, id).reading() as run:
                found.append(curve(run, type, x, y, width, start, stop, names))
        except (HTTPException, FettleError):
            found.append(Curve.nothing(names))
    packed = [each.packed() for each in found]
    several = {key: ",".join(told[key] for _, told in packed) for key in ("X-Rows", "X-Raw")}
    headers = {**several, "X-Fields": ",".join(names)}
    return Response(b"".join(body for body, _ in packed), media_type=BYTES, headers=headers)


def _field_names(fields: str) -> list[str]:
    names = fields.split(",")
    unknown = [name for name in names if name not in FIELDS]
    if unknown:
        raise HTTPException(422, f"unknown field {unknown[0][:50]!r}; there are {', '.join(FIELDS)}")
    return names


@router.get("/evals", response_model=Evals)
def evals(named: NamedRun) -> Json:
    """Fixed evals by step, with 95 % intervals."""
    from fettle.metrics import perplexity

    with named.reading() as run:
        return Json(
            {
                "evals": [
                    {**_eval(e), "perplexity": perplexity(e.cross_entropy)}
                    for e in run.evals(per_sample=False)
                ]
            }
        )


def _eval(e: FixedEval) -> dict[str, Any]:
    names = (
        "step", "epoch", "exact_match", "exact_match_low", "exact_match_high", "cross_entropy",
        "cross_entropy_low", "cross_entropy_high", "expected_calibration_error", "entropy", "samples",
        "tokens",
    )  # fmt: skip
    measured = {name: getattr(e, name) for name in names}
    told = {name: number(e.extra.get(name)) for name in ("surprisal", "seconds")}
    return {**measured, **told}
