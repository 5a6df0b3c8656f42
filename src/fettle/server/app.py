"""The application: routes, what every answer carries, and how errors are told."""

from __future__ import annotations

from typing import cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

import fettle
from fettle.errors import FettleError
from fettle.server import (
    checkpoint_routes,
    compare_routes,
    control_routes,
    detail_routes,
    export_routes,
    job_routes,
    log_routes,
    pack_routes,
    report_routes,
    run_routes,
    sample_routes,
    series_routes,
    stream_routes,
)
from fettle.server.access import Access
from fettle.server.answer import Json, text
from fettle.server.context import Context
from fettle.server.job_runner import job_runner
from fettle.server.open_run import BusyError
from fettle.server.page import add_page
from fettle.server.settings import Settings
from fettle.server.shapes import Problem

ROUTES = (
    run_routes,
    series_routes,
    sample_routes,
    checkpoint_routes,
    detail_routes,
    compare_routes,
    log_routes,
    pack_routes,
    export_routes,
    report_routes,
    stream_routes,
    control_routes,
    job_routes,
)
REFUSALS = {
    404: "There is no such run, or job.",
    422: "The request, or a file of the run, cannot be used.",
    503: "Busy.",
}


async def _refused(request: Request, error: Exception) -> Json:
    told = cast("HTTPException", error)
    return Json({"detail": str(told.detail)}, told.status_code, headers=dict(told.headers or {}))


async def _invalid(request: Request, error: Exception) -> Json:
    first = cast("RequestValidationError", error).errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return Json({"detail": text(f"{where}: {first['msg']}")}, 422)


async def _unreadable(request: Request, error: Exception) -> Json:
    return Json({"detail": text(str(error)).replace("\n", " ")}, 422)


async def _failed(request: Request, error: Exception) -> Json:
    # A defect of ours; uvicorn logs it with its traceback.
    return Json({"detail": f"the server failed: {type(error).__name__}"}, 500)


async def _busy(request: Request, error: Exception) -> Json:
    return Json({"detail": "the run is still being read; ask again"}, 503, headers={"Retry-After": "5"})


REFUSED_BY = {
    HTTPException: _refused,
    RequestValidationError: _invalid,
    FettleError: _unreadable,
    Exception: _failed,
    BusyError: _busy,
}
"""Every refusal is `{"detail": "one line"}`."""


def create_app(settings: Settings) -> FastAPI:
    """The server over one folder of runs."""
    app = FastAPI(
        title="fettle",
        version=fettle.__version__,
        summary="Runs below one folder: how they stand, their numbers, and the verdict.",
        openapi_url="/api/openapi.json",
        # The interactive pages load scripts from elsewhere; docs/api.md is made from the same document.
        docs_url=None,
        redoc_url=None,
        lifespan=job_runner,
        responses={code: {"model": Problem, "description": why} for code, why in REFUSALS.items()},
    )
    app.state.context = Context.of(settings)
    app.state.streams = stream_routes.Streams()
    for routes in ROUTES:
        app.include_router(routes.router)
    app.include_router(series_routes.many_router)
    add_page(app)
    for kind, tell in REFUSED_BY.items():
        app.add_exception_handler(kind, tell)
    app.add_middleware(Access, settings=settings)
    return app
