"""One live stream a page."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Query, Request
from fastapi.responses import StreamingResponse

from fettle.server.context import Context, Server, listed_run
from fettle.server.feed import Feed
from fettle.server.listing import ListedRun

HEARTBEAT_SECONDS = 15.0
RETRY = b"retry: 2000\n\n"
GZIP = 16
"""What zlib takes for a gzip header, beside the logarithm of its window."""

router = APIRouter(prefix="/api")


class Streams:
    """The feeds that somebody watches, one a run."""

    def __init__(self) -> None:
        self._feeds: dict[Path, Feed] = {}

    def join(self, server: Context, listed: ListedRun) -> Feed:
        """The feed of a run, with one more client. Raises HTTPException (503) where there are too many."""
        if server.counters.clients >= server.settings.streams:
            raise HTTPException(503, "too many live streams; close a page", {"Retry-After": "10"})
        feed = self._feeds.get(listed.path)
        if feed is None or feed.ended:
            run = server.runs.get(listed.path)
            feed = self._feeds[listed.path] = Feed(run, lambda: server.listing.fresh(listed).row())
        server.counters.clients += 1
        feed.watch()
        return feed

    def leave(self, server: Context, listed: ListedRun, feed: Feed) -> None:
        """One client less."""
        server.counters.clients -= 1
        feed.leave()
        if feed.clients == 0 and self._feeds.get(listed.path) is feed:
            del self._feeds[listed.path]


@router.get(
    "/stream",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Server-sent events."}},
)
async def stream(
    request: Request,
    server: Server,
    run: Annotated[str, Query(description="Id of a run")],
    since: Annotated[str | None, Query(description="A cursor: rows after it are sent first.")] = None,
    accept_encoding: Annotated[str, Header(include_in_schema=False)] = "",
    last_event_id: Annotated[str | None, Header(description="Wins over `since`; a browser sends it.")] = None,
) -> StreamingResponse:
    """What happens to a run, at most ten times a second. It ends where the run has ended.

    `columns` names the values of train rows, `rows` holds what is new by record type, `status` the line of
    the run when it changed, `rewind` says that what was sent no longer counts and is to be asked for again,
    `end` that nothing more comes. The id of an event is where the log stood: segment and offset.
    """
    listed = listed_run(server, run)
    streams: Streams = request.app.state.streams
    feed = streams.join(server, listed)
    try:
        first, number = await feed.begin(last_event_id or since)
    except BaseException:
        streams.leave(server, listed, feed)
        raise

    async def events() -> AsyncGenerator[bytes]:
        try:
            async for event in _events(request, feed, first, number):
                yield packed(event)
        finally:
            streams.leave(server, listed, feed)

    headers = {"X-Accel-Buffering": "no", "Vary": "Accept-Encoding"}
    # Digits pack to half, and names of columns to nothing. What is flushed can be read at once.
    packed = _plain
    if "gzip" in accept_encoding:
        packed, headers["Content-Encoding"] = _packing(), "gzip"
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


def _plain(event: bytes) -> bytes:
    return event


def _packing() -> Callable[[bytes], bytes]:
    """Packs the events of one client one after the other, in 64 kB of memory."""
    stream = zlib.compressobj(6, zlib.DEFLATED, GZIP | 13, 6)
    return lambda event: stream.compress(event) + stream.flush(zlib.Z_SYNC_FLUSH)


async def _events(request: Request, feed: Feed, first: bytes, number: int) -> AsyncGenerator[bytes]:
    yield RETRY + first
    while not await request.is_disconnected():
        # In this order: a last batch that comes in between is found in the next round.
        ended = feed.ended
        number, batches = feed.after(number)
        if batches is None:
            yield feed.behind()
        elif batches:
            yield batches
        elif ended:
            return
        elif not await feed.changed(HEARTBEAT_SECONDS):
            yield b":\n\n"
