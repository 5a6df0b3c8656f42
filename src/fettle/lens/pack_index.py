"""lenses.json: what is known of all lenses at once, what is known of each when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast, overload

import orjson

from fettle.errors import RunError
from fettle.runs.discover import PACK_INDEX as INDEX
from fettle.runs.folder import LARGEST_JSON_BYTES

VERSION = 1
# The file is written with two spaces of indent, and no string holds a line end: this is the key of its top.
LENSES = b'\n  "lenses": ['
END = b"]\n}"

Record = dict[str, Any]


class Records(Sequence[Record]):
    """One of each lens, read from the file when the first is asked for."""

    def __init__(self, count: int, read: Callable[[], list[Record]]) -> None:
        self._count = count
        self._read = read

    @cached_property
    def _all(self) -> list[Record]:
        return self._read()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Record]:
        return iter(self._all)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        return self._all[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._all == list(cast("Sequence[Any]", other))

    __hash__ = None  # pyright: ignore[reportAssignmentType]


def index_bytes(head: dict[str, Any], concepts: Sequence[str], records: Sequence[Record]) -> bytes:
    """The content of the file: `head`, then the names of the concepts, then the records."""
    content = {
        "version": VERSION,
        **head,
        "concepts": list(concepts),
        "lenses": [{"concept": c, **r} for c, r in zip(concepts, records, strict=True)],
    }
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)


def read_index(folder: Path) -> tuple[dict[str, Any], list[str], Sequence[Record]]:
    """Head, names and records of a pack. Raises RunError where it is missing or damaged.

    Of thousands of lenses the records take longer to parse than all else to read, and most readers want none.
    """
    path = folder / INDEX
    if not path.is_file():
        raise RunError(f"{folder}: holds no {INDEX}. Make a pack with: fettle lens train --out {folder}")
    damaged = RunError(f"{path}: is damaged or of another version. Train the pack again")
    try:
        content = path.read_bytes() if path.stat().st_size <= LARGEST_JSON_BYTES else b""
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}") from error

    def records() -> list[Record]:
        rows: Any = _parsed(content, damaged).get("lenses")
        return [{k: v for k, v in row.items() if k != "concept"} for row in _rows(rows, damaged)]

    start = content.find(LENSES)
    whole = start < 0 or not content.rstrip().endswith(END)
    head = _parsed(content if whole else content[:start].rstrip().rstrip(b",") + b"}", damaged)
    if head.get("version") != VERSION:
        raise damaged
    names: Any = head.pop("concepts", None)
    if names is None:  # Of a pack written before names stood apart.
        names = [row.get("concept") for row in _rows(_parsed(content, damaged).get("lenses"), damaged)]
    if not isinstance(names, list):
        raise damaged
    head.pop("lenses", None)
    concepts = [str(name) for name in cast("list[Any]", names)]
    return head, concepts, Records(len(concepts), records)


def _rows(value: Any, damaged: RunError) -> list[Record]:
    rows = cast("list[Any]", value) if isinstance(value, list) else None
    if rows is None or not all(isinstance(row, dict) for row in rows):
        raise damaged
    return rows


def _parsed(content: bytes, damaged: RunError) -> dict[str, Any]:
    try:
        value: Any = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise damaged from error
    if not isinstance(value, dict):
        raise damaged
    return cast("dict[str, Any]", value)
