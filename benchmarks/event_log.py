"""What one logged record costs beside `json.dumps` + write + flush, and what a SIGKILL loses.

python benchmarks/event_log.py [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fettle.runs import EventLog

RECORD = {
    "step": 1234, "epoch": 0.5, "loss": 1.2345, "loss_sum": 123.45, "completion_tokens": 100,
    "tokens": 400, "learning_rate": 1e-4, "grad_norm": 0.5, "tokens_per_sec": 5000.0, "step_time": 0.1,
}  # fmt: skip
ROUNDS, CALLS = 15, 5_000


def costs(log: Callable[[], None]) -> tuple[float, float]:
    """CPU seconds a call, and the 99th percentile of its wall time in microseconds.

    Two passes: reading a clock around each call would count as the call's own time.
    """
    started = time.process_time()
    for _ in range(CALLS):
        log()
    cpu = (time.process_time() - started) / CALLS
    walls: list[int] = []
    for _ in range(CALLS):
        before = time.perf_counter_ns()
        log()
        walls.append(time.perf_counter_ns() - before)
    return cpu, sorted(walls)[int(0.99 * CALLS)] / 1000


def rounds(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Both contenders in turn, several times."""
    found: dict[str, list[tuple[float, float]]] = {"json + flush": [], "fettle": []}
    for i in range(ROUNDS):
        with (folder / f"json-{i}").open("a") as stream:

            def baseline(stream=stream) -> None:  # type: ignore[no-untyped-def]
                stream.write(json.dumps({"type": "train", "timestamp": time.time(), **RECORD}) + "\n")
                stream.flush()

            found["json + flush"].append(costs(baseline))
        events = EventLog(folder / f"fettle-{i}")
        found["fettle"].append(costs(lambda events=events: events.append("train", RECORD)))
        events.close()
    return found


def lost_on_kill(folder: Path, records: int = 1000) -> int:
    """Records that a child had logged when it was killed and that are not in its file."""
    path = folder / "killed"
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        log = EventLog(path)
        for i in range(records):
            log.append("train", {**RECORD, "step": i})
        os.write(write, b"done")
        signal.pause()
    os.read(read, 4)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return records - path.read_bytes().count(b"\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = rounds(folder)
        lost = lost_on_kill(folder)
    pairs = list(zip(found["fettle"], found["json + flush"], strict=True))
    ratios = sorted(ours[0] / theirs[0] for ours, theirs in pairs)
    tails = sorted(ours[1] / theirs[1] for ours, theirs in pairs)
    result = {
        "cpu_ratio": statistics.median(ratios),
        "cpu_ratio_range": [ratios[0], ratios[-1]],
        "p99_ratio": statistics.median(tails),
        "cpu_us": {key: statistics.median(c for c, _ in rows) * 1e6 for key, rows in found.items()},
        "rows_lost_on_sigkill": lost,
    }
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    for key, value in result["cpu_us"].items():
        print(f"{key:14} {value:6.2f} µs CPU a record")
    low, high = result["cpu_ratio_range"]
    print(f"CPU ratio      {result['cpu_ratio']:6.2f}  ({low:.2f} to {high:.2f} over {ROUNDS} rounds)")
    print(f"p99 ratio      {result['p99_ratio']:6.2f}")
    print(f"rows lost on SIGKILL: {lost}")


if __name__ == "__main__":
    main()
