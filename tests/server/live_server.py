"""A real `fettle serve` in a process of its own, on a free port."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx


@contextmanager
def serving(folder: Path, *options: str) -> Generator[httpx.Client]:
    """A client of a server over `folder`. Its address is what the server printed."""
    command = [sys.executable, "-u", "-m", "fettle", "serve", str(folder), "--port", "0", *options]
    errors = folder.parent / f"{folder.name}.stderr"
    with errors.open("wb") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=os.environ)
    try:
        assert process.stdout is not None
        printed = process.stdout.readline().decode().strip()
        assert "http://" in printed, errors.read_text()
        address = printed.rsplit(": ", 1)[1]
        base, _, token = address.partition("/?token=")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        transport = httpx.HTTPTransport(retries=20)
        with httpx.Client(base_url=base, headers=headers, transport=transport, timeout=60) as client:
            yield client
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()
    assert b"Traceback" not in errors.read_bytes(), errors.read_text()
