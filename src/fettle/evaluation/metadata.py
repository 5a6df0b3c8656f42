"""metadata.json of an evaluation: what was evaluated, on what, and what it took."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from fettle.evaluation.cached_model import CachedModel
from fettle.evaluation.results_folder import ResultsFolder
from fettle.evaluation.samples import EvaluationData


@contextmanager
def described(folder: ResultsFolder, metadata: Callable[[float], dict[str, Any]]) -> Generator[None]:
    """Written from the beginning to the end, however it ends; `metadata` is told the seconds so far."""
    began, started_at = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")

    def write(state: str) -> None:
        seconds = time.perf_counter() - began
        told = {"state": state, "started_at": started_at, "seconds": seconds, **metadata(seconds)}
        folder.write_metadata(told)

    state = "interrupted"
    write("running")
    try:
        yield
        state = "completed"
    finally:
        write(state)


def of_model(model: CachedModel, files: Sequence[EvaluationData]) -> dict[str, Any]:
    """The data, the weights, the machine, and what of it was known."""
    return {
        "data": [
            {"path": str(f.path), "fingerprint": f.fingerprint, "samples": len(f.examples), "of": f.total}
            for f in files
        ],
        "weights": model.known_weights,
        "device": str(model.model.device),
        "precision": model.model.precision,
        "models_loaded": model.model.loads,
        "cache": {"path": str(model.cache.path), "hits": model.cache.hits, "misses": model.cache.misses},
        "peak_memory_bytes": peak_memory(),
        "versions": {name: version(name) for name in ("fettle", "torch", "transformers", "peft")},
    }


def cost(
    seconds: float | None, price_per_hour: float | None, spent: Sequence[Mapping[str, Any]]
) -> float | None:
    """Of this machine's time and of what servers were asked, in the currency of the prices.

    `seconds` is None where no weights ran here: that part is 0. None where a part is unknown: less than the
    truth is not the cost.
    """
    parts: list[float | None] = [told["cost"] for told in spent]
    if seconds is not None:
        parts.append(None if price_per_hour is None else seconds / 3600 * price_per_hour)
    return None if None in parts else sum(part or 0.0 for part in parts)


def peak_memory() -> int:
    """Bytes: of the GPU where there is one, else the largest this process was."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
