"""Logs of JSON lines: a bare metrics.jsonl of any tool, and what the logs of single tools share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fettle.errors import RunError
from fettle.runs.column_names import KNOWN, ColumnNames
from fettle.runs.follow import READ_BYTES, LogFollower, Place
from fettle.runs.records import Checkpoint, State
from fettle.runs.source import Kind

# What fettle writes (see docs/run-folder.md), and the earlier Tinker trainer.
OWN_TYPES = frozenset(
    {"start", "train", "fixed_eval", "checkpoint", "alert", "early_stop", "resume", "end", "val"}
)
# A row of these types is another tool's where it holds none of these.
NUMBERS = {"train": ("loss", "train_loss"), "val": ("val_loss",)}
# The earlier Tinker trainer: one record a log interval, losses already per completion token.
TINKER_TRAIN = {"train_loss": "loss", "train_loss_total": "loss_sum"}
TINKER_EVAL = {"val_loss": "cross_entropy", "val_batches": "batches"}

# The rows of a block are held at once: of a long log all together would fill the memory.
POLLED_BYTES = READ_BYTES


class JsonLinesLog:
    """A growing file of JSON lines, each line none, one or more records of fettle."""

    kind: Kind = "metrics"

    def __init__(self, path: Path, names: ColumnNames = KNOWN) -> None:
        self.path = path
        self.names = names
        self._follower = LogFollower(path)
        self._foreign_rows = 0

    @property
    def generation(self) -> int:
        return self._follower.generation

    @property
    def segment(self) -> str:
        return self._follower.segment

    def poll(self) -> list[dict[str, Any]]:
        """Some of what was appended since, [] once all was given. Raises RunError where it cannot be read."""
        try:
            rows = self._follower.poll(POLLED_BYTES)
        except OSError as error:
            raise RunError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        return self.translated(rows)

    def translated(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Records that these rows stand for."""
        return [record for row in rows for record in self._translated(row)]

    def translate(self, row: dict[str, Any]) -> Iterable[dict[str, Any]]:
        """Records that one row stands for."""
        if self.names is KNOWN and is_own(row):
            return [earlier_tinker(row)]
        records = self.names.records(row)
        # A type that nobody here knows is kept: it may be of a later fettle.
        return records or ([row] if isinstance(row.get("type"), str) else [])

    def checkpoints(self, cross_entropy: Mapping[int, float | None]) -> list[Checkpoint]:
        """None: such a log names no files. What its own `checkpoint` records say, the reader knows."""
        return []

    def state(self) -> State | None:
        """Not told."""
        return None

    def problems(self) -> list[str]:
        """Lines that are no JSON object, a torn end, rows that hold nothing known."""
        name, follower = self.path.name, self._follower
        found: list[str] = []
        if not self.path.is_file() or not self.path.stat().st_size:
            found.append(f"{name} is empty" if self.path.exists() else f"{name} is gone")
        if follower.skipped:
            lines = "1 line" if follower.skipped == 1 else f"{follower.skipped} lines"
            found.append(f"{name}: {lines} could not be read as JSON objects and are left out")
        if follower.torn:
            found.append(f"{name}: its last line is not whole and is left out")
        if self._foreign_rows:
            rows = "1 row holds" if self._foreign_rows == 1 else f"{self._foreign_rows} rows hold"
            found.append(f"{name}: {rows} neither train loss nor an eval under a known name, at a step")
        return found

    def _translated(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        records = list(self.translate(row))
        self._foreign_rows += not records
        return records


class RunLog(JsonLinesLog):
    """metrics.jsonl of a run folder of fettle: every record stands as it is."""

    kind: Kind = "fettle"

    def translated(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return rows

    @property
    def place(self) -> Place | None:
        """How far it was read."""
        return self._follower.place

    def go_on(self, place: Place) -> None:
        """Read on from a place in the same log."""
        self._follower.go_on(place)


def is_own(row: Mapping[str, Any]) -> bool:
    """Whether a row is a record of fettle or of the earlier Tinker trainer."""
    type = row.get("type")
    return (
        isinstance(type, str)
        and type in OWN_TYPES
        and (type not in NUMBERS or any(key in row for key in NUMBERS[type]))
    )


def earlier_tinker(record: dict[str, Any]) -> dict[str, Any]:
    """A record of the earlier Tinker trainer under fettle's names; fettle's own pass unchanged."""
    type = record.get("type")
    if type == "train" and "train_loss" in record:
        return {TINKER_TRAIN.get(key, key): value for key, value in record.items()}
    if type == "val":
        return {**{TINKER_EVAL.get(key, key): value for key, value in record.items()}, "type": "fixed_eval"}
    if type == "early_stop" and "best_val_loss" in record:
        return {**record, "best": record["best_val_loss"]}
    return record
