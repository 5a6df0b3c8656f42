"""A run as one HTML file."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import HTMLResponse

from fettle.server.answer import download
from fettle.server.context import NamedRun, Server
from fettle.server.shapes import Problem

router = APIRouter(prefix="/api/runs/{id}")


@router.get(
    "/report.html",
    # Of no type by itself: refusals are JSON, as everywhere.
    response_class=Response,
    responses={
        200: {"content": {"text/html": {}}, "description": "The page."},
        501: {"model": Problem, "description": "The page is not part of this installation."},
    },
)
def report(server: Server, named: NamedRun) -> HTMLResponse:
    """The page of a run with all its answers in it: one file that opens from disk and asks for nothing."""
    from fettle.server.report import report_page

    try:
        page = report_page(server, named)
    except FileNotFoundError as error:
        raise HTTPException(501, "the page is not part of this installation: it is not built") from error
    # Only ever a download: what is in it is not to run under this address.
    return HTMLResponse(page, headers=download(f"{named.listed.id}.html"))
