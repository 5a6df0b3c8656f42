"""The page: three files, joined and packed once when the server starts."""

from __future__ import annotations

import gzip
from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.responses import Response

from fettle.server.assets import Asset, page_assets

NOT_BUILT = "fettle serves its API under /api. The page is not part of this installation: it is not built.\n"


def add_page(app: FastAPI) -> None:
    """`/` and what it loads from `/static`."""
    try:
        assets = page_assets()
    except OSError:
        assets = {"/": Asset(NOT_BUILT.encode(), "text/plain; charset=utf-8")}
    for address, asset in assets.items():
        app.add_api_route(address, _sender(asset), methods=["GET", "HEAD"], include_in_schema=False)


def _sender(asset: Asset) -> Callable[[Request], Response]:
    packed = gzip.compress(asset.body, 9)

    def send(request: Request) -> Response:
        # The browser keeps it, and asks each time whether it is still the same.
        headers = {"ETag": asset.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if asset.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        body = asset.body
        if "gzip" in request.headers.get("accept-encoding", ""):
            body, headers["Content-Encoding"] = packed, "gzip"
        return Response(body, media_type=asset.media_type, headers=headers)

    return send
