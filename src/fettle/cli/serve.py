"""`fettle serve`: the page over a folder of runs."""

from __future__ import annotations

import gc
import logging
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fettle.errors import RunError

if TYPE_CHECKING:
    from fettle.server.settings import Settings

SHUTDOWN_SECONDS = 1


@click.command("serve")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("runs"), required=False)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address; any but this one needs a token."
)
@click.option(
    "--port", default=8377, show_default=True, type=click.IntRange(0, 65535), help="0 takes any free one."
)
@click.option(
    "--token", help="Asked of every request. Made up, and printed once, where another host needs one."
)
@click.option("--control", is_flag=True, help="Let the page launch, stop, pause and resume trainings.")
@click.option("--allow-host", "names", multiple=True, help="A further name it may be called by, of a proxy.")
def command(
    folder: Path, host: str, port: int, token: str | None, control: bool, names: tuple[str, ...]
) -> None:
    """Serve the runs below FOLDER (default: runs) as a page, read-only unless --control is given.

    FOLDER holds runs of fettle and of other tools, or is one. API: /api/openapi.json.

    \b
    Example:
      fettle serve runs
    """
    from fettle.server.settings import Settings, is_loopback

    if not folder.is_dir():
        raise RunError(f"{folder} is no folder. Name the folder that holds the runs: fettle serve FOLDER")
    if token is not None and not token.isascii():
        raise RunError("--token must be ASCII")
    listener = _listen(host, port)
    settings = Settings(
        root=folder,
        host=host,
        port=listener.getsockname()[1],
        token=token or (None if is_loopback(host) else secrets.token_urlsafe(24)),
        control=control,
        names=frozenset(name.lower() for name in names),
    )
    click.echo(f"{folder}: {_address(settings)}")
    _serve(settings, listener)


def _serve(settings: Settings, listener: socket.socket) -> None:
    # What is loaded stays: to look through it for waste takes a tenth of the start, and of every later look.
    gc.disable()
    import uvicorn

    from fettle.server.app import create_app

    app = create_app(settings)
    gc.freeze()
    gc.enable()
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        # The same everywhere, whatever else is installed.
        loop="asyncio",
        http="h11",
        server_header=False,
        proxy_headers=False,
        ws="none",
        # A live stream never ends by itself.
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        limit_concurrency=settings.streams + 256,
    )
    logging.getLogger("uvicorn.error").addFilter(is_news)
    uvicorn.Server(config).run(sockets=[listener])


def is_news(record: logging.LogRecord) -> bool:
    """That answers and streams are cut off when the server is stopped is none."""
    from asyncio import CancelledError

    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, CancelledError) and "graceful shutdown exceeded" not in record.getMessage()


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises RunError where the address is taken or is none of this machine's."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        cure = "Give another --port (0 takes a free one)." if port else "Give another --host."
        raise RunError(f"cannot listen on {host}:{port}: {error.strerror or error}. {cure}") from error
    return listener


def _address(settings: Settings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    secret = f"/?token={settings.token}" if settings.token else ""
    return f"http://{host}:{settings.port}{secret}"
