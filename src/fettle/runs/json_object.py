"""JSON objects, as other tools write them too: with NaN and Infinity in them."""

from __future__ import annotations

import json
import math
from typing import Any, cast

import orjson


def parse_object(data: bytes) -> dict[str, Any] | None:
    """A JSON object; None where the bytes are no JSON, or no object.

    Python's own writer puts NaN, Infinity and -Infinity into a file, which JSON does not know. They
    become None with `<key>_nonfinite` beside them, as the event log of a run has them.
    """
    try:
        value: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = _tolerant(data)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def mapping(value: Any) -> dict[str, Any]:
    """A JSON object that was read already; {} of anything else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """A JSON array that was read already; [] of anything else."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def string(value: Any) -> str | None:
    """A text that was read already; None of anything else."""
    return value if isinstance(value, str) else None


def strings(value: Any) -> list[str]:
    """The texts of an array."""
    return [item for item in items(value) if isinstance(item, str)]


def _tolerant(data: bytes) -> Any:
    if b"NaN" not in data and b"Infinity" not in data and b"e" not in data and b"E" not in data:
        return None  # Nothing in it that only the slower parser would take.
    try:
        return json.loads(data, object_pairs_hook=_finite_object, parse_int=_integer)
    except (ValueError, RecursionError):
        return None


def _integer(digits: str) -> int | float:
    """An integer of 64 bits, else the nearest float, as the faster parser has it."""
    value = float(digits)
    return int(digits) if abs(value) < 2**63 else value


def _finite_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, value in pairs:
        if isinstance(value, float) and not math.isfinite(value):
            row[key] = None
            row[f"{key}_nonfinite"] = str(value)
        else:
            row[key] = value
    return row
