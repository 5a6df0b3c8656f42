"""What alerts cost: a million logged steps replayed, and the time that one takes of a training step.

python benchmarks/alerts.py [--json] [--events N]
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from typing import Any

from fettle.decide.alerts import AlertEngine, replayed

EVAL_EVERY, CHECKPOINT_EVERY = 1000, 5000
# A step of a small model on a fast GPU.
STEP_SECONDS = 0.1


def log(events: int) -> Iterator[dict[str, Any]]:
    """Records as a run writes them: noisy loss and gradients, evals, checkpoints."""
    rng = random.Random(0)
    yield {"type": "start", "step": 0, "total_steps": events}
    for step in range(1, events + 1):
        loss = 2.0 * (1 + step) ** -0.1 + 0.1 * abs(rng.gauss(0, 1))
        yield {
            "type": "train", "timestamp": 1e9 + step * STEP_SECONDS, "step": step, "loss": loss,
            "loss_sum": 500 * loss, "completion_tokens": 500, "tokens": 2000, "learning_rate": 1e-4,
            "grad_norm": rng.expovariate(0.1), "tokens_per_sec": 20_000 * rng.uniform(0.8, 1.2),
            "step_time": STEP_SECONDS, "monitor_time": 1e-4,
        }  # fmt: skip
        if step % EVAL_EVERY == 0:
            yield {
                "type": "fixed_eval", "step": step, "cross_entropy": loss,
                "exact_match": rng.uniform(0.4, 0.6),
                "expected_calibration_error": 0.05, "seconds": 5.0,
            }  # fmt: skip
        if step % CHECKPOINT_EVERY == 0:
            yield {"type": "checkpoint", "step": step, "cross_entropy": loss, "exact_match": 0.5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--events", type=int, default=1_000_000)
    options = parser.parse_args()
    records = list(log(options.events))
    halves: list[float] = []
    engine = AlertEngine()
    for half in (records[: len(records) // 2], records[len(records) // 2 :]):
        started = time.process_time()
        for record in half:
            engine.feed(record)
        halves.append(time.process_time() - started)
    started = time.process_time()
    again, changes = replayed(records)
    whole = time.process_time() - started
    assert again.alerts == engine.alerts
    live = sum(halves)
    found = {
        "train_events": options.events,
        "feed_seconds": round(live, 2),
        "feed_microseconds_per_event": round(1e6 * live / len(records), 2),
        "second_half_over_first": round(halves[1] / halves[0], 2),
        "replay_seconds": round(whole, 2),
        "share_of_a_step": live / len(records) / STEP_SECONDS,
        "changes": len(changes),
    }
    if options.json:
        print(json.dumps(found))
        return
    each = found["feed_microseconds_per_event"]
    print(f"{options.events:,} train events fed to all alerts: {live:.1f} s of CPU, {each} µs an event")
    print(f"second half over first half: {found['second_half_over_first']} (1 is a constant cost)")
    print(f"replay, superseded records left out: {whole:.1f} s, {len(changes)} changes")
    print(f"of a step of {STEP_SECONDS} s: {found['share_of_a_step']:.4%}")


if __name__ == "__main__":
    main()
