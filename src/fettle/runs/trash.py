"""Removing checkpoints: out of sight at once, off the disk afterwards."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from fettle.errors import RunError
from fettle.runs.checkpoints import NAME, sync

TRASH = ".trash"
DISCARDED = re.compile(r"checkpoint-\d+(\.\d+)?$")


def discard_checkpoints(paths: Sequence[Path]) -> None:
    """Rename each checkpoint into the trash folder beside it, then empty the trash.

    A rename on one file system is whole or did not happen: whatever moment this is cut short at, each
    checkpoint lies in its place or in the trash, and those that were to stay were never touched. A
    folder is deleted only when all have been renamed. Raises RunError where the disk refuses.
    """
    for path in paths:
        if not NAME.match(path.name) or path.is_file():
            raise RunError(f"{path}: is no checkpoint folder, so it is not removed")
    for path in paths:
        trash = path.parent / TRASH
        try:
            trash.mkdir(exist_ok=True)
            path.rename(_free_name(trash, path.name))
        except FileNotFoundError:
            continue  # Somebody else removed it.
        except OSError as error:
            raise RunError(f"{path}: cannot be moved to {trash}: {error.strerror or error}") from error
    folders = {path.parent for path in paths}
    for folder in folders:
        sync(folder)
    empty_trash(folders)


def empty_trash(folders: Iterable[Path]) -> None:
    """Delete the checkpoints in the trash of each folder; anything else in there stays.

    Raises RunError where the disk refuses.
    """
    for folder in folders:
        trash = folder / TRASH
        try:
            for path in discarded(folder):
                if path.is_symlink():
                    path.unlink()
                else:
                    shutil.rmtree(path)
            if trash.is_dir() and not any(trash.iterdir()):
                trash.rmdir()
        except OSError as error:
            raise RunError(f"{trash}: cannot be emptied: {error.strerror or error}") from error


def discarded(folder: Path) -> list[Path]:
    """Checkpoints in the trash of a folder: those of a removal that was cut short."""
    trash = folder / TRASH
    return sorted(p for p in trash.iterdir() if DISCARDED.match(p.name)) if trash.is_dir() else []


def _free_name(trash: Path, name: str) -> Path:
    """A name that nothing in the trash has: a later checkpoint of the same step may be there."""
    target, count = trash / name, 2
    while target.exists() or target.is_symlink():
        target, count = trash / f"{name}.{count}", count + 1
    return target
