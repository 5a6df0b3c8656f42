"""Both servers as their users start them: each a process of its own, asked over HTTP."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

TICKS = os.sysconf("SC_CLK_TCK")
TRACKIO = "import trackio, sys; trackio.show(open_browser=False, block_thread=True)"


@dataclass(slots=True)
class Server:
    """A server that is up."""

    client: httpx.Client
    pid: int
    base: str
    start_ms: float
    """From the start of the process to its first answer."""

    def rss(self) -> float:
        """Megabytes of memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def fettle(root: Path, cache: Path) -> Iterator[Server]:
    """`fettle serve` over a folder, its column cache in another."""
    command = [sys.executable, "-u", "-m", "fettle", "serve", str(root), "--port", "0"]
    with _started(command, {"FETTLE_CACHE": str(cache)}, "/api/health", "GET") as server:
        yield server


@contextmanager
def trackio(folder: Path) -> Iterator[Server]:
    """`trackio show` over its own folder."""
    command = [sys.executable, "-u", "-c", TRACKIO]
    environment = {"TRACKIO_DIR": str(folder), "HF_HUB_OFFLINE": "1"}
    with _started(command, environment, "/api/get_all_projects", "POST") as server:
        yield server


@contextmanager
def _started(command: list[str], extra: dict[str, str], first: str, method: str) -> Iterator[Server]:
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, **extra}
    )
    try:
        assert process.stdout is not None
        base = None
        while base is None:
            line = process.stdout.readline().decode()
            if not line:
                raise SystemExit(f"{command} ended")
            found = re.search(r"https?://[\w.]+:\d+", line)
            base = found[0] if found else None
        transport = httpx.HTTPTransport(retries=50)
        with httpx.Client(base_url=base, transport=transport, timeout=600) as client:
            client.request(method, first, json={} if method == "POST" else None).raise_for_status()
            taken = 1000 * (time.perf_counter() - started)
            yield Server(client, process.pid, base, taken)
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()


def size_of(answer: httpx.Response) -> int:
    """Bytes of an answer as they were sent."""
    return answer.num_bytes_downloaded
