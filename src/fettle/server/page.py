"""The page: three files, packed once, when the first of them is asked for."""

from __future__ import annotations

import gzip
from functools import cache

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import Response

from fettle.server.assets import FILES, Asset, page_assets

NOT_BUILT = "fettle serves its API under /api. The page is not part of this installation: it is not built.\n"


def add_page(app: FastAPI) -> None:
    """`/` and what it loads from `/static`."""

    @cache
    def packed() -> dict[str, tuple[Asset, bytes]]:
        try:
            assets = page_assets()
        except OSError:
            assets = {"/": Asset(NOT_BUILT.encode(), "text/plain; charset=utf-8")}
        return {address: (asset, gzip.compress(asset.body, 9)) for address, asset in assets.items()}

    def send(request: Request) -> Response:
        found = packed().get(request.url.path)
        if found is None:
            raise HTTPException(404)
        return _answer(request, *found)

    for address in FILES:
        app.add_api_route(address, send, methods=["GET", "HEAD"], include_in_schema=False)


def _answer(request: Request, asset: Asset, packed: bytes) -> Response:
    # The browser keeps it, and asks each time whether it is still the same.
    headers = {"ETag": asset.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if asset.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    body = asset.body
    if "gzip" in request.headers.get("accept-encoding", ""):
        body, headers["Content-Encoding"] = packed, "gzip"
    return Response(body, media_type=asset.media_type, headers=headers)
