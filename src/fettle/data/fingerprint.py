"""Content hashes of data: what a run was trained and judged on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import xxhash

from fettle.data.example import Example
from fettle.errors import DataError


def fingerprint(path: Path) -> str:
    """XXH3-128 of a file's bytes."""
    digest = xxhash.xxh3_128()
    try:
        with path.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return f"xxh3:{digest.hexdigest()}"


def examples_fingerprint(examples: Sequence[Example]) -> str:
    """XXH3-128 of the examples' content hashes, in order."""
    ids = " ".join(example.id for example in examples)
    return f"xxh3:{xxhash.xxh3_128_hexdigest(ids.encode())}"
