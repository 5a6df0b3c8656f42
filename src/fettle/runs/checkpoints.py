"""Checkpoints that are complete or absent."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import xxhash

from fettle.errors import RunError
from fettle.runs.folder import read_json, replace_file

INFO = "fettle.json"
MANIFEST = "manifest.json"
PINNED = "PINNED"
ASIDE = ".tmp-"
NAME = re.compile(r"checkpoint-(\d+)$")


def write_checkpoint(
    checkpoints: Path, step: int, fill: Callable[[Path], object], info: Mapping[str, Any]
) -> Path:
    """Let `fill` write into a folder aside, add fettle.json and a manifest of hashes, sync, rename.

    A mapping that `fill` returns goes into fettle.json beside `info`.
    Raises RunError when the disk refuses; what was there before stays.
    """
    target = checkpoints / f"checkpoint-{step}"
    aside = checkpoints / f"{ASIDE}checkpoint-{step}"
    try:
        checkpoints.mkdir(parents=True, exist_ok=True)
        for leftover in checkpoints.glob(f"{ASIDE}*"):
            shutil.rmtree(leftover)
        aside.mkdir()
        told = fill(aside)
        more: Mapping[str, Any] = told if isinstance(told, Mapping) else {}  # pyright: ignore[reportUnknownVariableType]
        (aside / INFO).write_bytes(_json({**info, **more}))
        (aside / MANIFEST).write_bytes(_json({"files": _describe_files(aside)}))
        if (target / PINNED).exists():
            (aside / PINNED).touch()
        for path in [*aside.rglob("*"), aside]:
            sync(path)
        if target.exists():
            # A folder cannot replace a folder at once: the old one steps aside first, and
            # a crash between the two leaves the older checkpoints.
            target.rename(checkpoints / f"{ASIDE}old-{step}")
        aside.rename(target)
        sync(checkpoints)
        shutil.rmtree(checkpoints / f"{ASIDE}old-{step}", ignore_errors=True)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise RunError(f"{target}: the checkpoint cannot be written: {error.strerror or error}") from error
    return target


def add_files(checkpoint: Path, staged: Path) -> None:
    """Move the files of a folder into a checkpoint and its manifest; those it holds already stay as they are.

    Raises RunError when the disk refuses.
    """
    try:
        for file in sorted(staged.iterdir()):
            if not (checkpoint / file.name).exists():
                sync(file)
                file.rename(checkpoint / file.name)
        described = {
            name: told
            for name, told in _describe_files(checkpoint).items()
            if name not in (MANIFEST, PINNED) and not name.startswith(f"{staged.name}/")
        }
        replace_file(checkpoint / MANIFEST, _json({"files": described}))
    except OSError as error:
        raise RunError(f"{checkpoint}: cannot be added to: {error.strerror or error}") from error


def verify_checkpoint(path: Path) -> str | None:
    """Why a checkpoint is not whole; None when every file is there with its size and hash."""
    if not path.is_dir():
        return "it is not there"
    manifest = read_json(path / MANIFEST)
    if manifest is None or not isinstance(manifest.get("files"), dict):
        return f"{MANIFEST} is missing or unreadable"
    for name, expected in manifest["files"].items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != expected["size"]:
            return f"{name} has {file.stat().st_size} bytes, not {expected['size']}"
        if _hash(file) != expected["xxh3_128"]:
            return f"{name} does not match its hash"
    return None


def list_checkpoints(checkpoints: Path) -> list[tuple[int, Path]]:
    """Checkpoint folders with their steps, by step."""
    if not checkpoints.is_dir():
        return []
    found = [(int(match[1]), path) for path in checkpoints.iterdir() if (match := NAME.match(path.name))]
    return sorted((step, path) for step, path in found if path.is_dir())


def latest_checkpoint(checkpoints: Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint, and one line for each newer one that is damaged."""
    skipped: list[str] = []
    for _, path in reversed(list_checkpoints(checkpoints)):
        reason = verify_checkpoint(path)
        if reason is None:
            return path, skipped
        skipped.append(f"{path.name} is damaged ({reason}) and is skipped")
    return None, skipped


def pin_checkpoint(path: Path) -> None:
    """Mark a checkpoint as never to be removed. Raises RunError where that cannot be written."""
    try:
        (path / PINNED).touch()
    except OSError as error:
        raise RunError(f"{path}: cannot be pinned: {error.strerror or error}") from error


def unpin_checkpoint(path: Path) -> None:
    """Take the mark away, where there is one. Raises RunError where the disk refuses."""
    try:
        (path / PINNED).unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{path}: cannot be unpinned: {error.strerror or error}") from error


def folder_size(path: Path) -> int:
    """Bytes of all files below a folder; 0 of one that is being removed."""
    try:
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    except FileNotFoundError:
        return 0


def _describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        str(file.relative_to(folder)): {"size": file.stat().st_size, "xxh3_128": _hash(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def _hash(file: Path) -> str:
    digest = xxhash.xxh3_128()
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _json(value: Mapping[str, Any]) -> bytes:
    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    return orjson.dumps(dict(value), option=options, default=str)
