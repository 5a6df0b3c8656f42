"""The page: plain files of the package, none made up."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles

STATIC = Path(__file__).parent / "static"
NOT_BUILT = "fettle serves its API under /api. The page is not part of this installation: it is not built.\n"


def add_page(app: FastAPI) -> None:
    """`/` and what it loads from `/static`."""

    @app.get("/", include_in_schema=False)
    def index() -> Response:  # pyright: ignore[reportUnusedFunction]  # FastAPI calls it
        page = STATIC / "index.html"
        return FileResponse(page) if page.is_file() else PlainTextResponse(NOT_BUILT)

    if STATIC.is_dir():
        app.mount("/static", StaticFiles(directory=STATIC), name="static")
