"""What `fettle lens drift` left of a generated run: thirty lenses in two branches over four checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson

MOVERS = {"refusal": 2.4, "arithmetic": 1.7, "politeness": -1.2}
NAMES = [*MOVERS, *(f"concept {k}" for k in range(27))]
STEPS = (500, 1000, 1500, 2000)


def drift_content() -> dict[str, Any]:
    """The file, as plain values."""
    rng = np.random.default_rng(4)
    lenses: list[dict[str, Any]] = []
    for k, name in enumerate(NAMES):
        shift = MOVERS.get(name, float(rng.normal(0, 0.15)))
        shifts = [shift * step / STEPS[-1] for step in STEPS]
        f1 = float(rng.uniform(0.7, 0.99))
        lenses.append(
            {
                "concept": name, "grade": "ABCU"[k % 4], "branches": ["speech" if k % 2 else "reasoning"],
                "f1": f1, "auroc": min(1.0, f1 + 0.05), "shifts": shifts, "low": shift - 0.2,
                "high": shift + 0.2, "effect": shift / 0.15, "p": 1e-6 if name in MOVERS else 0.4,
                "moved": name in MOVERS,
                "frozen_auroc": [0.95, 0.9, 0.84, 0.79], "refit_auroc": [0.96, 0.95, 0.95, 0.94],
                "cosine": [0.99, 0.9, 0.8, 0.71],
                "examples": [f"A plain text on {name}, number {i}." for i in range(3)],
                "strongest": [f"A test text of {name}."],
            }
        )  # fmt: skip
    return {
        "pack": "lenses/qwen3-8b", "created_at": "2026-11-20T19:00:00+00:00", "layer": 18, "texts": 48,
        "controls": 2, "checkpoints": [{"name": f"checkpoint-{s}", "step": s} for s in STEPS],
        "lenses": sorted(lenses, key=lambda lens: -abs(lens["effect"])),
    }  # fmt: skip


def write_drift(path: Path) -> None:
    """Write the file."""
    path.parent.mkdir()
    path.write_bytes(orjson.dumps(drift_content()))
