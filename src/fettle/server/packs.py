"""Lens packs below the served folder: found beside the runs, read again only where their files changed."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fettle.errors import RunError
from fettle.lens.pack_index import read_index
from fettle.runs.discover import PACK_INDEX, file_stamp, foreign_entries
from fettle.runs.json_object import mapping, string, strings
from fettle.runs.numbers import integer, number
from fettle.server.answer import text
from fettle.server.listing import RunListing

Stamp = tuple[str, int, int]
OUTSIDE = "it holds a link out of the served folder, or what is no plain file"


@dataclass(frozen=True, slots=True)
class Pack:
    """One pack as it was when its index had this stamp."""

    id: str
    path: Path
    stamp: Stamp
    row: dict[str, Any]
    """Its line in the list."""


class Packs:
    """The packs of a folder by their ids, which are looked up and never made into paths."""

    def __init__(self, listing: RunListing) -> None:
        self._listing = listing
        self._lock = threading.Lock()
        self._packs: dict[str, Pack] = {}

    def all(self) -> list[Pack]:
        """By id."""
        with self._lock:
            found = self._listing.packs()
            self._packs = {id: self._read(id, path) for id, path in sorted(found.items())}
            return list(self._packs.values())

    def lenses(self, id: str) -> dict[str, Any] | None:
        """All that is shown of a pack; None where there is none. Raises RunError of one that is damaged."""
        pack = next((pack for pack in self.all() if pack.id == id), None)
        if pack is None:
            return None
        if pack.row["problem"] is not None:
            raise RunError(f"{pack.row['name']}: {pack.row['problem']}")
        _, concepts, records = read_index(pack.path)
        rows = [_lens(concept, mapping(record)) for concept, record in zip(concepts, records, strict=False)]
        return {**pack.row, "lenses": rows}

    def _read(self, id: str, path: Path) -> Pack:
        before, stamp = self._packs.get(id), file_stamp(path / PACK_INDEX)
        if before is not None and before.path == path and before.stamp == stamp:
            return before
        try:
            if foreign_entries(path, self._listing.root):
                raise RunError(OUTSIDE)
            head, concepts, _ = read_index(path)
            row = _row(head, len(concepts))
        except RunError as error:
            row = {**_row({}, 0), "problem": str(error).removeprefix(f"{path / PACK_INDEX}: ")}
        return Pack(id, path, stamp, {"id": id, "name": text(path.name), **row})


def _row(head: Mapping[str, Any], lenses: int) -> dict[str, Any]:
    about = mapping(head.get("about"))
    return {
        "model": string(about.get("model")),
        "layer": integer(head.get("layer")),
        "count": lenses,
        "created_at": string(about.get("created_at")),
        "problem": None,
    }


def _lens(concept: str, record: Mapping[str, Any]) -> dict[str, Any]:
    test = mapping(record.get("test"))
    return {
        "concept": concept,
        "grade": string(record.get("grade")),
        "branches": strings(record.get("branches")),
        "kind": string(record.get("kind")) or "linear",
        "state": string(record.get("state")),
        "reason": string(record.get("reason")),
        **{name: number(mapping(test.get(name)).get("value")) for name in ("f1", "auroc")},
        "selectivity": number(record.get("selectivity")),
        "baselines": {key: number(value) for key, value in mapping(record.get("baselines")).items()},
        "strongest": strings(record.get("strongest_texts")),
    }
