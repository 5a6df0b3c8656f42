"""A thousand runs listed, scores that are asked for again and again, and a log of a million bars."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from fettle.runs import RunFolder
from fettle.runs.log_lines import LogLines
from monitoring import servers
from monitoring.report import Row, progress

sys.path.insert(0, str(Path(__file__).parents[1]))

from verdict import write_run

POLLS = 20


def measure(folder: Path, runs: int, bars: int) -> list[Row]:
    """All of it."""
    return [*_listed(folder / "many", runs), _scored(folder / "scored"), *_folded(folder, bars)]


def _listed(root: Path, runs: int) -> list[Row]:
    progress(f"a list of {runs:,} runs")
    for i in range(runs):
        run = RunFolder.create(root / f"run-{i:04d}", config_yaml="", metadata={"model": {"name": "tiny"}})
        run.write_status(
            {"state": "completed", "step": i, "total_steps": i, "loss": 1.5, "updated_at": 1e9 + i}
        )
    with servers.fettle(root, root / "cache") as server:
        taken: list[float] = []
        for _ in range(6):
            started = time.perf_counter()
            answer = server.client.get("/api/runs", params={"limit": 100})
            taken.append(1000 * (time.perf_counter() - started))
            assert answer.json()["total"] == runs
            time.sleep(0.6)  # A list younger than half a second is given again.
    return [
        Row(f"{runs:,} runs listed, first", taken[0], "ms"),
        Row("  listed again", sorted(taken[1:])[2], "ms", note=f"{servers.size_of(answer) / 1000:.0f} kB"),
    ]


def _scored(root: Path) -> Row:
    progress("scores and verdict, asked for again and again")
    write_run(root / "run", 2_000, 20, 500)
    with servers.fettle(root, root / "cache") as server:
        for path in ("checkpoints", "verdict"):
            server.client.get(f"/api/runs/run/{path}").raise_for_status()
        before = server.client.get("/api/health").json()["parsed"]
        for _ in range(POLLS):
            for path in ("checkpoints", "verdict"):
                server.client.get(f"/api/runs/run/{path}").raise_for_status()
        after = server.client.get("/api/health").json()["parsed"]
    return Row(f"worked out anew in {POLLS} polls of scores and verdict", after - before, "", 0.0)


def _folded(folder: Path, bars: int) -> list[Row]:
    progress(f"a log with a bar drawn {bars:,} times")
    path = folder / "train.log"
    with path.open("w", encoding="utf-8") as log:
        for i in range(bars):
            log.write(f"\rtrain: {100 * i // bars:3d}%|###       | {i}/{bars} [00:01<00:09, 9.1it/s]")
        log.write("\ndone\n" + "the same\n" * 1000)
    lines = LogLines(path)
    started = time.perf_counter()
    lines.refresh()
    taken = time.perf_counter() - started
    total, _, found = lines.select(10, -10)
    note = f"{path.stat().st_size / 1e6:.0f} MB in {taken:.1f} s; the last line ×{found[-1].repeated}"
    return [Row(f"lines left of {bars:,} redrawn bars and 1,001 lines", total, "", 3.0, note=note)]
