"""What is live: bytes a step, and a hundred pages that watch one run."""

from __future__ import annotations

import asyncio
import time
import zlib
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from fettle.runs import EventLog, RunFolder
from monitoring import servers
from monitoring.report import Row, progress

CLIENTS = 100
SECONDS = 8.0
PACE = 0.1


def measure(folder: Path, seconds: float = SECONDS) -> list[Row]:
    """Ten steps a second of ten scalars each, watched by one page and by a hundred."""
    run = RunFolder.create(folder / "runs" / "live", config_yaml="", metadata={})
    log = EventLog(run.metrics_path)
    log.append("start", {"step": 0, "total_steps": 10_000})
    run.write_status({"state": "running", "step": 0})
    with run.lock(), servers.fettle(folder / "runs", folder / "cache") as server:
        progress("one page watches ten steps a second")
        alone = asyncio.run(_watched(server, log, 1, seconds, first=1))
        progress(f"{CLIENTS} pages watch them")
        many = asyncio.run(_watched(server, log, CLIENTS, seconds, first=100_001))
    steps = alone.steps
    served = sum(count == many.steps for count in many.seen)
    share, shares = (100 * found.cpu / found.seconds for found in (alone, many))
    note = f"{served} of {CLIENTS} got all {many.steps} steps; one page {share:.1f} %"
    return [
        Row("bytes of a live step, ten scalars", alone.bytes / steps, "B", 150.0),
        Row(f"CPU of the server, {CLIENTS} live pages", shares, "%", note=note),
        Row("live pages that missed a step", CLIENTS - served, "", 0.0),
    ]


class _Watched:
    """What came."""

    def __init__(self) -> None:
        self.steps = 0
        self.bytes = 0
        self.seen: list[int] = []
        self.cpu = 0.0
        self.seconds = 0.0


async def _watched(
    server: servers.Server, log: EventLog, clients: int, seconds: float, *, first: int
) -> _Watched:
    found = _Watched()
    readers = [asyncio.create_task(_read(server.base)) for _ in range(clients)]
    await asyncio.sleep(2.0)
    cpu, started = server.cpu(), time.monotonic()
    while time.monotonic() - started < seconds:
        step = first + found.steps
        log.append("train", {"step": step, **_scalars(step)})
        found.steps += 1
        await asyncio.sleep(PACE)
    found.seconds = time.monotonic() - started
    await asyncio.sleep(1.0)
    found.cpu = server.cpu() - cpu
    for reader in readers:
        reader.cancel()
    for reader in readers:
        rows, size = await reader
        found.seen.append(rows)
        found.bytes = size
    return found


def _scalars(step: int) -> dict[str, float]:
    """Ten of what a trainer logs, with as many digits as it has."""
    loss = 1.2345678901 + step / 9.7e6
    return {
        "epoch": step / 1234, "loss": loss, "streaming_ce": loss * 1.01, "learning_rate": 2e-4 / (1 + step),
        "grad_norm": loss / 3, "tokens": 2000 + step % 97, "completion_tokens": 500 + step % 89,
        "tokens_per_sec": 20_000 / loss, "step_time": loss / 11, "monitor_time": loss / 9000,
    }  # fmt: skip


async def _read(base: str) -> tuple[int, int]:
    """Rows of training that one client was sent, and the bytes that brought them, packed as for a browser."""
    host = urlsplit(base)
    reader, writer = await asyncio.open_connection(host.hostname, host.port)
    asked = f"GET /api/stream?run=live HTTP/1.1\r\nHost: {host.netloc}\r\nAccept-Encoding: gzip\r\n\r\n"
    writer.write(asked.encode())
    await reader.readuntil(b"\r\n\r\n")
    unpack = zlib.decompressobj(31)
    rows, size = 0, 0
    with suppress(asyncio.CancelledError):
        while True:
            line = await reader.readline()
            chunk = await reader.readexactly(int(line, 16) + 2)
            event = unpack.decompress(chunk[:-2])
            if b"event: rows" in event:
                rows += event.count(b"[") - event.count(b"event: rows")
                size += len(line) + len(chunk)
    writer.close()
    return rows, size
