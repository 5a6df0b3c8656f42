"""A chart of a long run: how soon it is answered, with how many bytes, and whether its spikes are in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from monitoring import servers
from monitoring.report import Row, in_turn, paired, progress
from monitoring.runs import PROJECT, SCALARS, SPIKE, losses, write_fettle, write_trackio

FIELDS = "x_first,mean,min,max,nan_count,inf_count,minus_inf_count"
EXACT = "x_first,x_last,max"
SMOOTH = "x_first,mean,nan_count,inf_count,minus_inf_count"
SPIKES = 100
WIDTH = 1000


def measure(folder: Path, steps: int, most: int, rounds: int) -> list[Row]:
    """Both over a run of `steps` steps of ten scalars; ours also over `most` steps."""
    spikes = np.sort(np.random.default_rng(3).choice(steps - 1, SPIKES, replace=False))
    loss = losses(steps, spikes)
    progress(f"writing {steps:,} steps for both")
    write_fettle(folder / "runs" / "large", loss)
    write_trackio(folder / "trackio", {"large": loss})
    rows = _reopening(folder, steps)
    with (
        servers.fettle(folder / "runs", folder / "cache") as ours,
        servers.trackio(folder / "trackio") as theirs,
    ):
        start, memory = (ours.start_ms, theirs.start_ms), (ours.rss(), theirs.rss())
        progress(f"charts of {steps:,} steps, in turn")
        _ours(ours.client), _theirs(theirs.client)
        taken = in_turn(rounds, lambda: _ours(ours.client)[0], lambda: _theirs(theirs.client)[0])
        rows += [
            paired(f"chart of ten scalars, {steps:,} steps", "ms", *taken),
            Row(f"one curve, {steps:,} steps", _repeated(ours.client, "large"), "ms", 20.0),
        ]
        sizes = _ours(ours.client)[1], _theirs(theirs.client)[1]
        one = servers.size_of(_series(ours.client, "large", "loss"))
        smooth = servers.size_of(_series(ours.client, "large", "loss", SMOOTH))
        rows += [
            Row(f"  bytes of ten curves, {WIDTH} buckets", sizes[0] / 1000, "kB", None, sizes[1] / 1000),
            Row("  bytes of one curve, with extremes", one / 1000, "kB", 8.0),
            Row("  of a smooth curve, without extremes", smooth / 1000, "kB", 8.0),
            _kept(ours.client, theirs.client),
            Row("server start, to its first answer", start[0], "ms", 1000.0, start[1]),
            Row("  memory when started", memory[0], "MB", 60.0, memory[1]),
            Row(f"  memory after {steps:,} steps were served", ours.rss(), "MB", None, theirs.rss()),
        ]  # fmt: skip
    if most > steps:
        progress(f"writing and opening {most:,} steps")
        write_fettle(folder / "runs" / "huge", losses(most, spikes), SCALARS[:1])
        with servers.fettle(folder / "runs", folder / "cache") as ours:
            _patient(ours.client, lambda: _series(ours.client, "huge", "loss"))
            rows.append(Row(f"one curve, {most:,} steps", _repeated(ours.client, "huge"), "ms", 50.0))
    return rows


def _reopening(folder: Path, steps: int) -> list[Row]:
    """A new server, asked for a curve: when the log was never read, and when its columns are kept."""
    progress(f"opening {steps:,} steps for the first time, and again")
    first: list[float] = []
    for _ in range(2):
        with servers.fettle(folder / "runs", folder / "cache") as ours:
            started = time.perf_counter()
            _patient(ours.client, lambda: _series(ours.client, "large", "loss"))
            first.append(time.perf_counter() - started)
    with servers.trackio(folder / "trackio") as theirs:
        opened = _theirs(theirs.client)[0] / 1000
    return [
        Row(f"first opening of {steps:,} steps", first[0], "s", None, opened),
        Row("  opening them again, another server", first[1], "s", 0.5, opened),
    ]


def _patient(client: httpx.Client, ask: Callable[[], httpx.Response]) -> httpx.Response:
    """A large run is read for longer than a request waits; the page asks again, too."""
    while (answer := ask()).status_code == 503:
        time.sleep(1)
    return answer


def _series(client: httpx.Client, run: str, column: str, fields: str = FIELDS) -> httpx.Response:
    query = {"type": "train", "y": column, "width": WIDTH, "fields": fields, "compact": int(fields != EXACT)}
    return client.get(f"/api/runs/{run}/series", params=query)


def _repeated(client: httpx.Client, run: str) -> float:
    """Median of twenty, in milliseconds, other curves in between."""
    taken: list[float] = []
    for _ in range(20):
        started = time.perf_counter()
        _series(client, run, "loss").raise_for_status()
        taken.append(1000 * (time.perf_counter() - started))
    return float(np.median(taken))


def _ours(client: httpx.Client) -> tuple[float, int]:
    """Milliseconds and bytes of ten curves, as the page asks for them."""
    started = time.perf_counter()
    size = sum(servers.size_of(_series(client, "large", column)) for column in SCALARS)
    return 1000 * (time.perf_counter() - started), size


def _theirs(client: httpx.Client) -> tuple[float, int]:
    """Milliseconds and bytes of the one answer that its page asks for every second."""
    started = time.perf_counter()
    answer = _logs(client, ["large"])
    return 1000 * (time.perf_counter() - started), servers.size_of(answer)


def _logs(client: httpx.Client, runs: list[str]) -> httpx.Response:
    asked: dict[str, Any] = {"project": PROJECT, "runs": [{"run": run, "run_id": run} for run in runs]}
    answer = client.post("/api/get_logs_batch", json={**asked, "scalar_only": True})
    return answer.raise_for_status()


def _kept(ours: httpx.Client, theirs: httpx.Client) -> Row:
    """Spikes of one step that are not in the answers."""
    rows = np.frombuffer(_series(ours, "large", "loss", EXACT).content).reshape(-1, 3)
    held = rows[rows[:, 2] == SPIKE]
    data = _logs(theirs, ["large"]).json()["data"][0]["logs"]
    kept = sum(1 for row in data if row.get("loss") == SPIKE)
    first = np.searchsorted(rows[:, 0], _spike_steps(ours), side="right") - 1
    lost = int((rows[first, 2] != SPIKE).sum())
    note = f"{SPIKES - lost} of {SPIKES} in {len(held)} buckets; trackio {kept} of {SPIKES}"
    return Row("spikes of one step that are lost", lost, "", 0.0, SPIKES - kept, note=note)


def _spike_steps(client: httpx.Client) -> np.ndarray:
    """Where the log has them, by its rows."""
    steps: list[float] = []
    cursor = None
    while True:
        query = {"columns": "step,loss", "limit": 200_000} | ({"since": cursor} if cursor else {})
        answer = client.get("/api/runs/large/metrics", params=query).json()
        found = answer["columns"]
        steps += [s for s, loss in zip(found["step"], found["loss"], strict=True) if loss == SPIKE]
        cursor = answer["cursor"]
        if not answer["more"]:
            return np.array(steps)
