"""Who may ask: the name called, the page that asks, the token; and what answers forbid a browser."""

from __future__ import annotations

import hmac
from collections.abc import MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fettle.server.answer import Json
from fettle.server.settings import Settings

COOKIE = "fettle_token"
REQUEST_HEADER = "x-fettle"
LONGEST_BODY = 1 << 16
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Access:
    """Refuses a request before any route sees it."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_headers(message, scope["path"])
            await send(message)

        refusal = self._refusal(scope, Headers(scope=scope))
        await (refusal or self._app)(scope, receive, guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> Json | None:
        if not self._is_ours(headers):
            return Json({"detail": "this server does not go by that name"}, 421)
        if not _is_same_site(scope, headers):
            return Json({"detail": "requests of other sites are refused"}, 403)
        if self._settings.token is not None:
            refusal = self._without_token(scope, headers)
            if refusal is not None:
                return refusal
        return None if scope["method"] in SAFE_METHODS else _unsafe(headers)

    def _is_ours(self, headers: Headers) -> bool:
        """Whether exactly one Host is named, and it is one of this server's names."""
        named = headers.getlist("host")
        try:
            name = urlsplit(f"//{named[0]}").hostname if len(named) == 1 else None
        except ValueError:
            return False
        return name is not None and self._settings.allows_host(name.lower())

    def _without_token(self, scope: Scope, headers: Headers) -> Json | None:
        """None where the token is there; a redirect where it stands in the page's address."""
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if (kind.lower() == "bearer" and self._is_token(bearer)) or self._is_token(_cookie(headers)):
            return None
        query = parse_qs(scope["query_string"].decode("latin-1"))
        given = query.get("token", [""])[0]
        if scope["path"] == "/" and scope["method"] == "GET" and self._is_token(given):
            # Out of the address at once: addresses are kept and shown.
            cookie = f"{COOKIE}={given}; HttpOnly; SameSite=Strict; Path=/"
            return Json({}, 303, headers={"Location": "/", "Set-Cookie": cookie})
        told = "a token is needed: open the address that fettle serve printed, or send Authorization: Bearer"
        return Json({"detail": told}, 401, headers={"WWW-Authenticate": "Bearer"})

    def _is_token(self, given: str) -> bool:
        token = self._settings.token or ""
        return bool(given) and hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


def _is_same_site(scope: Scope, headers: Headers) -> bool:
    """Whether the request comes from our own page, from no page, or from a link that was followed."""
    origin = headers.get("origin")
    if origin is not None and origin.lower() != f"{scope.get('scheme', 'http')}://{headers['host']}".lower():
        return False
    site = headers.get("sec-fetch-site", "none")
    followed = headers.get("sec-fetch-mode") == "navigate" and not scope["path"].startswith("/api")
    return site in ("same-origin", "none") or (followed and scope["method"] == "GET")


def _unsafe(headers: Headers) -> Json | None:
    """Why a request that changes something is refused; None where it is not.

    A page of another site can send neither JSON nor a header of its own without asking first.
    """
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return Json({"detail": "send Content-Type: application/json"}, 415)
    if headers.get("sec-fetch-site") != "same-origin" and headers.get(REQUEST_HEADER) is None:
        return Json({"detail": "send the header X-Fettle: 1"}, 403)
    length = headers.get("content-length", "")
    if not length.isdigit() or len(length) > 9 or int(length) > LONGEST_BODY:
        return Json({"detail": f"send Content-Length, at most {LONGEST_BODY}"}, 413)
    return None


def _cookie(headers: Headers) -> str:
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookies[COOKIE].value if COOKIE in cookies else ""


def _add_headers(message: MutableMapping[str, Any], path: str) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in HEADERS.items():
        headers[name] = value
    if path.startswith("/api"):
        headers["Cache-Control"] = "no-store"
