"""A real `fettle serve` in a process of its own, on a free port."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import httpx

END_SECONDS = 30.0
CONSTANTS = {"fettle.cli.serve.SHUTDOWN_SECONDS": 0.05}
"""Of every forked server: streams that a test leaves open are cut off soon."""


@contextmanager
def serving(
    folder: Path, *options: str, constants: dict[str, float] | None = None, new_interpreter: bool = False
) -> Generator[httpx.Client]:
    """A client of a server over `folder`. Its address is what the server printed.

    `constants`, such as `fettle.server.feed.KEPT_BATCHES`, are other ones than the module's.
    """
    arguments = ["serve", str(folder), "--port", "0", *options]
    errors = folder.parent / f"{folder.name}.stderr"
    reading, writing = os.pipe()
    with errors.open("wb") as stderr:
        if new_interpreter:
            pid = _interpreted(arguments, writing, stderr.fileno())
        else:
            pid = _forked(arguments, constants or {}, writing, stderr.fileno())
    os.close(writing)
    with os.fdopen(reading, "rb", 0) as output:
        try:
            printed = output.readline().decode().strip()
            assert "http://" in printed, errors.read_text()
            address = printed.rsplit(": ", 1)[1]
            base, _, token = address.partition("/?token=")
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            transport = httpx.HTTPTransport(retries=20)
            with httpx.Client(base_url=base, headers=headers, transport=transport, timeout=60) as client:
                yield client
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            # Its output ends with it.
            assert select.select([output], [], [], END_SECONDS)[0], "the server did not end"
            output.read()
    assert b"Traceback" not in errors.read_bytes(), errors.read_text()


def _interpreted(arguments: list[str], output: int, errors: int) -> int:
    command = [sys.executable, "-u", "-m", "fettle", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
    atexit.register(process.wait, END_SECONDS)
    return process.pid


def _forked(arguments: list[str], constants: dict[str, float], output: int, errors: int) -> int:
    order = {
        "arguments": arguments,
        "environment": dict(os.environ),
        "folder": str(Path.cwd()),
        "constants": {**CONSTANTS, **constants},
    }
    with tempfile.TemporaryFile() as ordered:
        ordered.write(json.dumps(order).encode())
        ordered.seek(0)
        socket.send_fds(_nursery(), [b"1"], [ordered.fileno(), output, errors])
    return int(_nursery().recv(20))


@cache
def _nursery() -> socket.socket:
    """Where servers are ordered; see `nursery.py`. It ends with this process."""
    here, there = socket.socketpair(socket.AF_UNIX)
    command = [sys.executable, str(Path(__file__).with_name("nursery.py")), str(there.fileno())]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[there.fileno()])
    there.close()

    def end() -> None:
        here.close()
        process.wait(END_SECONDS)

    atexit.register(end)
    return here
