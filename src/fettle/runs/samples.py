"""Per-sample results of fixed evals on disk, one file an eval."""

from __future__ import annotations

import os
import zipfile
from dataclasses import fields
from pathlib import Path

import numpy as np

from fettle.runs.records import SampleResults

# A million samples take 400 MB; a small file can be made to unpack to any size.
LARGEST_BYTES = 1 << 30


def samples_path(folder: Path, step: int) -> Path:
    """Where the results of the eval at this step stand."""
    return folder / f"step-{step:08d}.npz"


def save_samples(folder: Path, step: int, results: SampleResults) -> Path:
    """Write results atomically; an eval of the same step is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    path = samples_path(folder, step)
    aside = path.with_name(f".{path.name}.tmp")
    with aside.open("wb") as stream:
        np.savez_compressed(stream, **{f.name: getattr(results, f.name) for f in fields(results)})
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
            return SampleResults(**{f.name: arrays[f.name] for f in fields(SampleResults)})
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None
