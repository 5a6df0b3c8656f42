"""The list of runs, and what a run says of itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query

import fettle
from fettle.errors import RunError
from fettle.runs.discover import is_inside
from fettle.server.answer import Json
from fettle.server.context import Context, NamedRun, Server, state
from fettle.server.cursor import cursor_of
from fettle.server.shapes import Config, Health, RunDetail, RunList, VerdictShape

if TYPE_CHECKING:
    from fettle.runs import RunReader

Sort = Literal[
    "name", "kind", "state", "step", "total_steps", "epoch", "started_at", "updated_at", "model", "loss",
    "streaming_ce", "cross_entropy", "exact_match", "best_step", "eta_seconds", "alerts",
    "-name", "-kind", "-state", "-step", "-total_steps", "-epoch", "-started_at", "-updated_at", "-model",
    "-loss", "-streaming_ce", "-cross_entropy", "-exact_match", "-best_step", "-eta_seconds", "-alerts",
]  # fmt: skip
LONGEST_YAML = 1 << 20
MOST_ASKED = 50

router = APIRouter(prefix="/api")


@router.get("/health", response_model=Health)
def health(server: Annotated[Context, Depends(state)]) -> Json:
    """The server itself, and what it had to work out so far."""
    counters = server.counters
    return Json(
        {
            "version": fettle.__version__,
            "control": server.settings.control,
            "runs": len(server.listing.runs()),
            "parsed": counters.parsed,
            "cached": counters.cached,
            "clients": counters.clients,
            "uptime": time.monotonic() - server.started,
        }
    )


@router.get("/runs", response_model=RunList)
def runs(
    server: Server,
    q: Annotated[str, Query(description="Words that id, model, kind, state or a tag contain.")] = "",
    tag: Annotated[str | None, Query(description="Only runs with this tag.")] = None,
    sort: Annotated[Sort, Query(description="A field; with a minus, descending.")] = "-updated_at",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> Json:
    """The runs below the served folder."""
    rows = [listed.row() for listed in server.listing.runs()]
    words = q.casefold().split()
    rows = [row for row in rows if (tag is None or tag in row["tags"]) and _matches(row, words)]
    rows = _ordered(rows, sort)
    return Json({"total": len(rows), "runs": rows[offset : offset + limit]})


@router.get("/runs/{id}", response_model=RunDetail)
def run(server: Server, named: NamedRun) -> Json:
    """One run: how it stands, and what it holds."""
    row = server.listing.fresh(named.listed).row()
    with named.reading() as reader:
        counts = reader.counts()
        found: dict[str, Any] = {
            "state": reader.state(),
            "status": reader.status(),
            "metadata": reader.metadata(),
            "columns": {type: list(reader.columns(type)) for type in counts},
            "counts": counts,
            "control": _control(reader),
            "problems": reader.problems,
            "cursor": cursor_of(reader),
        }
    return Json({**row, **found})


@router.get("/runs/{id}/config", response_model=Config)
def config(server: Server, named: NamedRun) -> Json:
    """Its configuration: resolved, and as the file stands."""
    with named.reading() as reader:
        path = reader.config_path
        if path is None or not path.is_file() or not is_inside(path, server.listing.root):
            return Json({"resolved": None, "yaml": None})
        if path.stat().st_size > LONGEST_YAML:
            raise RunError(f"{path.name} is larger than {LONGEST_YAML} bytes")
        yaml = path.read_text(encoding="utf-8", errors="replace")
        return Json({"resolved": reader.config(), "yaml": yaml})


@router.get("/runs/{id}/verdict", response_model=VerdictShape)
def verdict(named: NamedRun) -> Json:
    """Stop or go on, which checkpoint, and why."""
    from fettle.server.judging import judged

    with named.reading() as reader:
        return Json(judged(named.open, reader))


def _control(reader: RunReader) -> list[dict[str, Any]]:
    """What people asked of its trainer, and when it was obeyed."""
    told = ("step", "action", "requested_at", "timestamp")
    return [{key: record.get(key) for key in told} for record in reader.records("control", last=MOST_ASKED)]


def _matches(row: dict[str, Any], words: list[str]) -> bool:
    named = (row["id"], row["name"], row["model"] or "", row["kind"], row["state"], *row["tags"])
    text = " ".join(named).casefold()
    return all(word in text for word in words)


def _ordered(rows: list[dict[str, Any]], sort: Sort) -> list[dict[str, Any]]:
    """Sorted by one field, what was not measured last either way."""
    key, descending = sort.removeprefix("-"), sort.startswith("-")
    known = [row for row in rows if row[key] is not None]
    unknown = [row for row in rows if row[key] is None]
    return sorted(known, key=lambda row: row[key], reverse=descending) + unknown
