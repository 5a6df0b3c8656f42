"""TensorBoard event files, read without TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import xxhash

from fettle.errors import RunError
from fettle.runs.column_names import FLAG, KNOWN, ColumnNames
from fettle.runs.records import Checkpoint, State
from fettle.runs.source import Kind
from fettle.runs.tensorboard_event import Scalar, scalars
from fettle.runs.tfrecord import RecordFollower

EVENTS = "*tfevents*"
# Where writers put a run's files below the folder that a person names (Hugging Face: runs/<date>_<host>).
DEPTHS = (EVENTS, f"*/{EVENTS}", f"*/*/{EVENTS}")


class TensorBoardRun:
    """The event files of one run, followed as they grow.

    All values of a step are one row. A file that begins at an earlier step than the one before it
    ended is a run that was resumed there: it supersedes what the older file said of those steps,
    scalar by scalar.
    """

    kind: Kind = "tensorboard"

    def __init__(self, path: Path, names: ColumnNames = KNOWN) -> None:
        self.path = path
        self.names = names
        self.generation = 0
        self._followers: dict[Path, RecordFollower] = {}
        self._forget()

    @property
    def segment(self) -> str:
        names = "\n".join(sorted(str(file) for file in self._followers))
        return f"{xxhash.xxh3_64_hexdigest(names.encode())[:12]}.{self.generation}"

    def poll(self) -> list[dict[str, Any]]:
        """Records of the steps that are new or changed. Raises RunError where no file can be read."""
        files = event_files(self.path)
        if not files:
            raise RunError(f"{self.path}: its TensorBoard event files are gone")
        try:
            if any(file not in files or f.replaced() for file, f in self._followers.items()):
                self._forget()
                self.generation += 1
            changed = {step for file in files for step in self._read(file)}
        except OSError as error:
            raise RunError(f"{error.filename}: cannot be read: {error.strerror or error}") from error
        if changed and self._emitted is not None and min(changed) < self._emitted:
            # Rows grow by step: what changed before the last of them makes all count anew.
            self.generation += 1
            changed = set(self._rows)
        self._emitted = max([*changed, *([] if self._emitted is None else [self._emitted])], default=None)
        rows = (self._rows[step] for step in sorted(changed) if step in self._rows)
        return [record for row in rows for record in self.names.records(row)]

    def checkpoints(self, cross_entropy: Mapping[int, float | None]) -> list[Checkpoint]:
        """None: event files name no checkpoints."""
        return []

    def state(self) -> State | None:
        """Not told."""
        return "unknown"

    def problems(self) -> list[str]:
        """Files that end within a record or hold damaged ones; scalars without a known name."""
        found: list[str] = []
        for file, follower in self._followers.items():
            if follower.broken_at is not None:
                found.append(f"{file.name} is damaged at byte {follower.broken_at}: what follows is left out")
            if follower.torn:
                found.append(f"{file.name}: its last record is not whole and is left out")
            if follower.damaged or self._undecoded.get(file):
                count = follower.damaged + self._undecoded.get(file, 0)
                records = "1 record is" if count == 1 else f"{count} records are"
                found.append(f"{file.name}: {records} damaged and left out")
        if not self._rows:
            found.append(f"{self.path.name} holds no scalars")
        elif not any(any(self.names.records(row)) for row in self._rows.values()):
            found.append(f"no scalar has a known name. There are: {', '.join(sorted(self._tags)[:8])}")
        return found

    def _forget(self) -> None:
        self._followers.clear()
        self._rows: dict[int, dict[str, Any]] = {}
        self._tags: dict[str, Path] = {}
        self._undecoded: dict[Path, int] = {}
        self._emitted: int | None = None

    def _read(self, file: Path) -> set[int]:
        """Take in what a file has gained; the steps that changed by it."""
        changed: set[int] = set()
        follower = self._followers.setdefault(file, RecordFollower(file))
        for data in follower.poll():
            try:
                found = scalars(data)
            except ValueError:
                self._undecoded[file] = self._undecoded.get(file, 0) + 1
                continue
            for scalar in found:
                changed |= self._take(scalar, file)
        return changed

    def _take(self, scalar: Scalar, file: Path) -> set[int]:
        """The steps that one scalar changes: its own, and those it supersedes."""
        superseded: set[int] = set()
        owner = self._tags.setdefault(scalar.tag, file)
        if file > owner:
            self._tags[scalar.tag] = file
            superseded = {s for s, row in self._rows.items() if s > scalar.step and scalar.tag in row}
            for step in superseded:
                del self._rows[step][scalar.tag]
        row = self._rows.setdefault(scalar.step, {"step": scalar.step})
        finite = isfinite(scalar.value)
        row |= {"timestamp": scalar.wall_time, scalar.tag: scalar.value if finite else None}
        row.pop(f"{scalar.tag}{FLAG}", None)
        if not finite:
            row[f"{scalar.tag}{FLAG}"] = str(scalar.value)
        return {scalar.step} | superseded


def event_files(path: Path) -> list[Path]:
    """Event files of one run, oldest first. Raises RunError where a folder holds several runs."""
    if path.is_file():
        return [path] if "tfevents" in path.name else []
    for pattern in DEPTHS:
        files = sorted(f for f in path.glob(pattern) if f.is_file() and not _hidden(f, path))
        folders = sorted({file.parent for file in files})
        if len(folders) > 1:
            shown = ", ".join(str(folder.relative_to(path)) for folder in folders[:5])
            raise RunError(f"{path} holds {len(folders)} TensorBoard runs. Name one of them: {shown}")
        if files:
            return files
    return []


def _hidden(file: Path, below: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(below).parts)
