"""Answers in JSON that every parser takes: finite, in UTF-8, not too deep."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, cast

import orjson
from starlette.responses import Response

OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
DEEPEST = 100
"""Levels of nesting that are given; what lies deeper becomes "…"."""


class Json(Response):
    """A JSON answer; numbers that are not finite become null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return encode(content)


def encode(content: Any) -> bytes:
    """JSON of anything a run can hold."""
    try:
        return orjson.dumps(content, option=OPTIONS)
    except (orjson.JSONEncodeError, TypeError):  # Half a surrogate pair, a huge integer, a thousand levels.
        return orjson.dumps(_plain(content, DEEPEST))


def download(name: str) -> dict[str, str]:
    """Headers of an answer that is kept as a file of about this name, never shown."""
    stem, dot, ending = name.rpartition(".")
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", stem)[:150]
    return {"Content-Disposition": f'attachment; filename="{safe}{dot}{ending}"'}


def text(value: str) -> str:
    """A text that can be encoded: bytes of a file name that are no UTF-8 become marks."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _plain(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    if isinstance(value, float):
        return value if isfinite(value) else None
    if depth == 0:
        return "…"
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {_plain(str(key), 1): _plain(item, depth - 1) for key, item in items}
    if hasattr(value, "tolist"):
        return _plain(value.tolist(), depth)
    if isinstance(value, Sequence):
        return [_plain(item, depth - 1) for item in cast("Sequence[Any]", value)]
    return _plain(str(value), 1)
