"""What `fettle eval --watch` found of a generated run: two files, one of them with a checker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

FILES = ("hard.jsonl", "valid.jsonl")
SAMPLES = 400


def evaluation_row(step: int, data: str, time: float, *, worse: bool = False) -> dict[str, Any]:
    """One checkpoint on one file."""
    share = 0.2 + 0.0002 * step - 0.1 * (data == "hard.jsonl")
    loss = 2.0 - 0.0004 * step
    row: dict[str, Any] = {
        "type": "evaluation", "timestamp": time, "step": step, "name": f"step_{step}" if step else "base",
        "data": data, "folder": "run_2026-11-20_18-10-00_hard+1", "samples": SAMPLES,
        "exact_match": share, "exact_match_low": share - 0.04, "exact_match_high": share + 0.04,
        "cross_entropy": loss, "cross_entropy_low": loss - 0.1, "cross_entropy_high": loss + 0.1,
        "expected_calibration_error": 0.05,
        "trend": {"exact_match": {"state": "insufficient", "text": "1 of the 3 evals that a trend needs"}},
    }  # fmt: skip
    if data == "hard.jsonl":
        row |= {
            "number_pass_rate": share + 0.1,
            "number_pass_rate_low": share,
            "number_pass_rate_high": share + 0.2,
        }
    if worse:
        row["trend"]["exact_match"] = {
            "state": "regressing", "effect": -0.06, "since_step": 1000, "p_value": 0.001,
            "text": "regressing since step 1000 (6.0 points below its best of 5 evals)",
        }  # fmt: skip
    return row


def write_evaluations(path: Path, rows: list[dict[str, Any]]) -> None:
    """Append rows to `evaluations/evaluations.jsonl`."""
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as stream:
        stream.writelines(orjson.dumps(row) + b"\n" for row in rows)
