"""Finding the runs below a folder, of every tool that can be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR, S_ISLNK, S_ISREG

from fettle.runs.checkpoints import NAME
from fettle.runs.folder import CALLBACK_FOLDER, CONFIG, METADATA, METRICS, RESULTS, STATUS, RunFolder
from fettle.runs.huggingface import STATE
from fettle.runs.llama_factory import TRAINER_LOG

DEEPEST = 5
MOST_FOLDERS = 50_000
"""Where fettle is pointed at a home folder by mistake it must still answer."""
LEFT_OUT = frozenset({"node_modules", "__pycache__", "site-packages", "wandb"})
PACK_INDEX = "lenses.json"
"""What tells a folder of lenses."""
LOGS = frozenset({METRICS, TRAINER_LOG, STATE})


@dataclass(slots=True)
class _Folder:
    """What one folder held when it was last looked at."""

    changed: int
    is_run: bool
    is_pack: bool
    children: list[str] = field(default_factory=list[str])
    """Paths of folders, free of links."""


class RunFinder:
    """Finds runs again and again; a folder that did not change since is not listed again.

    A run lies in no other run. Links are followed as long as they stay below the root.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))
        self._seen: dict[str, _Folder] = {}

    def find(self) -> list[Path]:
        """Folders of runs below the root, or the root itself, by path."""
        before, self._seen = self._seen, {}
        return sorted(Path(path) for path in self._walk(str(self.root), 0, before))

    def packs(self) -> list[Path]:
        """Folders of lens packs that lie in no run, as the last `find` met them, by path."""
        return sorted(Path(path) for path, folder in self._seen.items() if folder.is_pack)

    def _walk(self, path: str, depth: int, before: dict[str, _Folder]) -> Iterator[str]:
        if path in self._seen or len(self._seen) >= MOST_FOLDERS:
            return
        folder = self._look(path, before.get(path))
        if folder is None:
            return
        self._seen[path] = folder
        if folder.is_run:
            yield path
        elif depth < DEEPEST:
            for child in folder.children:
                yield from self._walk(child, depth + 1, before)

    def _look(self, path: str, before: _Folder | None) -> _Folder | None:
        try:
            changed = os.stat(path).st_mtime_ns  # noqa: PTH116 - of every folder; Path.stat takes twice as long
            if before is not None and before.changed == changed:
                return before
            with os.scandir(path) as entries:
                return self._listed(path, changed, list(entries))
        except OSError:
            return None  # Removed just now, or not ours to read.

    def _listed(self, path: str, changed: int, entries: list[os.DirEntry[str]]) -> _Folder:
        names = {entry.name for entry in entries}
        folders = [e for e in entries if e.name[0] != "." and e.name not in LEFT_OUT and self._is_inside(e)]
        is_run = (
            (METADATA in names and CONFIG in names and RESULTS not in names)
            or bool(names & LOGS)
            or any("tfevents" in name for name in names)
            or any(NAME.match(e.name) and Path(path, e.name, STATE).is_file() for e in folders)
            or any(e.name == CALLBACK_FOLDER and RunFolder.is_run(Path(path, e.name)) for e in folders)
        )
        # A link stands for where it leads: what it names is found once.
        paths = (os.path.realpath(e.path) if e.is_symlink() else e.path for e in folders)
        return _Folder(changed, is_run, PACK_INDEX in names and not is_run, [] if is_run else sorted(paths))

    def _is_inside(self, entry: os.DirEntry[str]) -> bool:
        """Whether an entry is a folder below the root, also after its link is followed."""
        try:
            if not entry.is_dir():
                return False
        except OSError:
            return False
        return not entry.is_symlink() or is_inside(Path(entry.path), self.root)


def newest_run(root: Path) -> Path | None:
    """The run at or below a folder whose files changed last; None where there is none."""
    found = RunFinder(root).find()
    return max(found, key=lambda path: (max((s[1] for s in run_stamp(path)), default=0), path), default=None)


def is_inside(path: Path, root: Path) -> bool:
    """Whether a path leads to something at or below `root`, which is free of links."""
    real = Path(os.path.realpath(path))
    return real == root or root in real.parents


def foreign_entries(run: Path, root: Path, *, deep: bool = False) -> list[Path]:
    """Entries of a run folder that are not to be read: links out of `root`, pipes, sockets and devices.

    Without `deep` only those of the folder itself and of the folders right below it.
    """
    found: list[Path] = []
    for folder, names, files in os.walk(run):
        entries = [Path(folder, name) for name in (*names, *files)]
        found += [path for path in entries if not _is_plain(path, root)]
        if not deep and Path(folder) != run:
            names.clear()
    return found


def _is_plain(path: Path, root: Path) -> bool:
    """Whether a path is a file or folder below the root, also after its link is followed."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return True  # Removed just now.
    if S_ISLNK(mode):
        return is_inside(path, root) and (not path.exists() or path.is_file() or path.is_dir())
    return S_ISREG(mode) or S_ISDIR(mode)


def run_stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, times and sizes of the files that say how a run stands: equal as long as nothing changed."""
    if (path / METADATA).is_file():
        return tuple(file_stamp(path / name) for name in (STATUS, METADATA))
    inner = path / CALLBACK_FOLDER
    if RunFolder.is_run(inner):
        return tuple(file_stamp(inner / name) for name in (STATUS, METADATA))
    try:
        # Path.iterdir would make a path of every name.
        names = sorted(n for n in os.listdir(path) if n in LOGS or "tfevents" in n or NAME.match(n))  # noqa: PTH208
    except OSError:
        names = []
    return tuple(file_stamp(path / name) for name in names)


def file_stamp(path: Path) -> tuple[str, int, int]:
    """Name, time and size of a file: equal as long as it did not change."""
    try:
        status = path.stat()
    except OSError:
        return (path.name, 0, -1)
    return (path.name, status.st_mtime_ns, status.st_size)
