"""The scalars in one TensorBoard event: of its protocol buffer, the fields that hold numbers.

Field numbers: tensorflow/core/util/event.proto, framework/summary.proto and framework/tensor.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple, cast

WALL_TIME, STEP, SUMMARY = 1, 2, 5
VALUE = 1
TAG, SIMPLE_VALUE, TENSOR = 1, 2, 8
DTYPE, TENSOR_CONTENT = 1, 4
# dtype -> field of its values where they are not in tensor_content, and the struct code of one value there.
NUMBERS = {1: (5, "f"), 2: (6, "d"), 3: (7, "i"), 9: (10, "q")}
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Scalar(NamedTuple):
    """One number of a run."""

    step: int
    tag: str
    value: float
    wall_time: float
    """Unix seconds."""


def scalars(event: bytes) -> list[Scalar]:
    """Every scalar of an event; [] of one that holds pictures, histograms or text.

    Raises ValueError where the bytes are no event.
    """
    step, wall_time, summaries = 0, 0.0, list[bytes]()
    for field, kind, content in _fields(event):
        if field == STEP and kind == VARINT:
            step = _signed(cast("int", content))
        elif field == WALL_TIME and kind == FIXED64:
            wall_time = _float("<d", cast("bytes", content))
        elif field == SUMMARY and kind == BYTES:
            summaries.append(cast("bytes", content))
    values = [
        cast("bytes", content)
        for summary in summaries
        for field, kind, content in _fields(summary)
        if field == VALUE and kind == BYTES
    ]
    found = (_named_number(value) for value in values)
    return [Scalar(step, tag, number, wall_time) for tag, number in found if number is not None]


def _named_number(value: bytes) -> tuple[str, float | None]:
    """Tag and number of a summary value; None where it holds no single number."""
    tag, number = "", None
    for field, kind, content in _fields(value):
        if field == TAG and kind == BYTES:
            tag = cast("bytes", content).decode("utf-8", "replace")
        elif field == SIMPLE_VALUE and kind == FIXED32:
            number = _float("<f", cast("bytes", content))
        elif field == TENSOR and kind == BYTES:
            number = _tensor_number(cast("bytes", content))
    return tag, number


def _tensor_number(tensor: bytes) -> float | None:
    """The number of a tensor of one element, as TensorFlow 2 writes a scalar."""
    fields = {field: content for field, _, content in _fields(tensor)}
    value_field, code = NUMBERS.get(cast("int", fields.get(DTYPE, 0)), (0, ""))
    raw = fields.get(TENSOR_CONTENT) or b""
    content = raw or fields.get(value_field) or b""
    if isinstance(content, int):
        return float(_signed(content))
    if code in ("i", "q") and not raw:  # Packed varints, of which one fills the field.
        value, end = _varint(content, 0) if content else (0, -1)
        return float(_signed(value)) if end == len(content) else None
    return _float(f"<{code}", content) if code and len(content) == struct.calcsize(f"<{code}") else None


def _fields(message: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Number, wire type and content of every field of a protocol buffer."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == VARINT:
            content, at = _varint(message, at)
            yield key >> 3, kind, content
            continue
        if kind == BYTES:
            length, at = _varint(message, at)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind} is none of a protocol buffer's")
        if at + length > len(message):
            raise ValueError("a field is longer than its message")
        yield key >> 3, kind, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number has no end")


def _signed(value: int) -> int:
    """Two's complement of 64 bits."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _float(code: str, content: bytes) -> float:
    return float(struct.unpack(code, content)[0])
