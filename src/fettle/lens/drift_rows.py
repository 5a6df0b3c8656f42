"""Drift as it stands in a run folder, whoever read the lenses."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.lens.drift import Drift
from fettle.lens.lens_pack import LensPack

EXAMPLES = 3


def drift_content(
    pack: LensPack,
    *,
    texts: int,
    controls: int,
    checkpoints: Sequence[tuple[str, int | None]],
    rows: list[dict[str, Any]],
) -> dict[str, Any]:
    """Plain values of all: `checkpoints` are names and steps, `rows` the lenses, the largest effect first."""
    return {
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "layer": pack.layer,
        "texts": texts,
        "controls": controls,
        "checkpoints": [{"name": name, "step": step} for name, step in checkpoints],
        "lenses": rows,
    }


def drift_row(
    pack: LensPack, lens: int, shifts: Sequence[NDArray[np.float64]], last: Drift, texts: Sequence[str]
) -> dict[str, Any]:
    """Plain values of one lens: its shift at each checkpoint, and all else at the last one."""
    record = pack.records[lens]
    test: dict[str, Any] = record.get("test") or {}
    return {
        "concept": pack.concepts[lens],
        "grade": record.get("grade"),
        "branches": record.get("branches", []),
        **{name: test[name]["value"] if name in test else None for name in ("f1", "auroc")},
        "shifts": [float(shift_C[lens]) for shift_C in shifts],
        "low": float(last.low[lens]),
        "high": float(last.high[lens]),
        # Few lenses and no controls: nothing to judge beside.
        "effect": None if np.isnan(last.effect[lens]) else float(last.effect[lens]),
        "p": float(last.p[lens]),
        "moved": bool(last.moved[lens]),
        "examples": [texts[int(t)] for t in last.examples(lens, EXAMPLES)],
        "strongest": record.get("strongest_texts", []),
    }
