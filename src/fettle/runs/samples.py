"""Per-sample results of fixed evals on disk, one file an eval."""

from __future__ import annotations

import os
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fettle.runs.records import SampleResults

# A million samples take 400 MB; a small file can be made to unpack to any size.
LARGEST_BYTES = 1 << 30
DTYPES: dict[str, DTypeLike] = {
    "sample_id": np.str_,
    "pattern": np.str_,
    "tokens": np.int64,
    "exact_match": np.bool_,
    "cross_entropy_sum": np.float64,
    "entropy_sum": np.float64,
    "bin_tokens": np.float64,
    "bin_confidence": np.float64,
    "bin_correct": np.float64,
}


def samples_path(folder: Path, step: int) -> Path:
    """Where the results of the eval at this step stand."""
    return folder / f"step-{step:08d}.npz"


def save_samples(folder: Path, step: int, results: SampleResults) -> Path:
    """Write results atomically; an eval of the same step is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    path = samples_path(folder, step)
    aside = path.with_name(f".{path.name}.tmp")
    with aside.open("wb") as stream:
        # Not compressed: what is left after packing hardly shrinks, and every verdict reads all evals.
        measured = {f.name: getattr(results, f.name) for f in fields(results)}
        packed: dict[str, Any] = {name: _packed(v) for name, v in measured.items() if v is not None}
        np.savez(stream, **packed)
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(path)
    return path


def load_samples(folder: Path, step: int) -> SampleResults | None:
    """Results of the eval at this step; None where they are missing or unreadable."""
    try:
        with np.load(samples_path(folder, step), allow_pickle=False) as arrays:
            if sum(part.file_size for part in arrays.zip.infolist()) > LARGEST_BYTES:
                return None
            unmeasured: dict[str, Any] = {"entropy_sum": None, "exact_match": None}
            there = [f.name for f in fields(SampleResults) if f.name in arrays or f.name not in unmeasured]
            return SampleResults(**{**unmeasured, **{n: _unpacked(arrays[n], n) for n in there}})
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def _packed(values: NDArray[Any]) -> NDArray[Any]:
    """The same values in the smallest type that holds them all: counts take a byte each, ids are ASCII."""
    try:
        if values.dtype.kind == "U":
            return values.astype(np.bytes_)
        if values.dtype.kind in "if" and values.size:
            with np.errstate(invalid="ignore"):
                small = values.astype(np.min_scalar_type(int(values.max())))
            return small if np.array_equal(small, values) else values
    except (UnicodeEncodeError, ValueError, OverflowError):  # Other scripts; NaN; infinity.
        pass
    return values


def _unpacked(values: NDArray[Any], name: str) -> NDArray[Any]:
    return values.astype(DTYPES[name], copy=False)
