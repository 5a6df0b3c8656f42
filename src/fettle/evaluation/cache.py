"""What was scored once: per-token results in SQLite, by content alone."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from fettle.errors import RunError
from fettle.runs.cache_folder import cache_folder

NAME = "scores.sqlite"
BUSY_SECONDS = 60.0
KEYS_A_QUERY = 500
TABLES = """
CREATE TABLE IF NOT EXISTS scores (
  key BLOB PRIMARY KEY, value BLOB NOT NULL, used REAL NOT NULL);
CREATE TABLE IF NOT EXISTS digests (
  path TEXT PRIMARY KEY, stamp TEXT NOT NULL, digest TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """What a cache holds."""

    path: str
    entries: int
    bytes: int
    oldest: float | None
    """Unix time at which the entry that was not used for longest was used."""


class ScoreCache:
    """Values by key, shared safely by any number of processes (WAL).

    A cache only saves time: where it cannot be read or written, that is said once and nothing is kept.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or cache_folder() / NAME
        self.hits = 0
        self.misses = 0
        self._db: sqlite3.Connection | None = None
        try:
            self._db = self._open()
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Answers of an endpoint come in another thread, while this one waits for them all.
        db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(TABLES)
        return db

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those of the keys that are there."""
        found: dict[bytes, bytes] = {}
        if self._db is not None:
            try:
                for part in _parts(list(dict.fromkeys(keys)), KEYS_A_QUERY):
                    marks = ",".join("?" * len(part))
                    rows = self._db.execute(f"SELECT key, value FROM scores WHERE key IN ({marks})", part)
                    found.update(rows.fetchall())
                self._touch(found)
            except sqlite3.Error as error:
                self._give_up(error)
        hits = sum(key in found for key in keys)
        self.hits += hits
        self.misses += len(keys) - hits
        return found

    def put(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep values, all or none of them."""
        if self._db is None:
            return
        now = time.time()
        try:
            with self._transaction(self._db):
                rows = ((key, value, now) for key, value in items)
                self._db.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", rows)
        except sqlite3.Error as error:
            self._give_up(error)

    def digest(self, file: Path) -> str | None:
        """The digest of a file that is still the one it was taken of."""
        if self._db is None:
            return None
        try:
            row = self._db.execute(
                "SELECT digest FROM digests WHERE path = ? AND stamp = ?", (str(file.resolve()), _stamp(file))
            ).fetchone()
        except sqlite3.Error as error:
            self._give_up(error)
            return None
        return None if row is None else str(row[0])

    def remember(self, file: Path, digest: str) -> None:
        """Keep the digest of a file as it is now."""
        if self._db is None:
            return
        try:
            row = (str(file.resolve()), _stamp(file), digest)
            self._db.execute("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", row)
        except sqlite3.Error as error:
            self._give_up(error)

    def info(self) -> CacheInfo:
        """How much it holds. Raises RunError where it cannot be read."""
        db = self._readable()
        count, oldest = db.execute("SELECT count(*), min(used) FROM scores").fetchone()
        size = sum(f.stat().st_size for f in self.path.parent.glob(f"{self.path.name}*"))
        return CacheInfo(str(self.path), count, size, oldest)

    def prune(self, unused_days: float) -> int:
        """Remove what was not used for so many days; how many entries that were. Raises RunError."""
        db = self._readable()
        removed = db.execute(
            "DELETE FROM scores WHERE used <= ?", (time.time() - unused_days * 86_400,)
        ).rowcount
        if unused_days == 0:
            db.execute("DELETE FROM digests")
        db.execute("VACUUM")
        return int(removed)

    def close(self) -> None:
        """Let go of the file."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _touch(self, found: dict[bytes, bytes]) -> None:
        """Note that entries were used, to the day: a run that only reads does not rewrite the cache."""
        if self._db is None or not found:
            return
        now = time.time()
        with self._transaction(self._db):
            rows = ((now, key, now - 86_400) for key in found)
            self._db.executemany("UPDATE scores SET used = ? WHERE key = ? AND used < ?", rows)

    def _readable(self) -> sqlite3.Connection:
        if self._db is None:
            raise RunError(f"{self.path}: cannot be used as a cache. Remove it, or set FETTLE_CACHE")
        return self._db

    @contextmanager
    def _transaction(self, db: sqlite3.Connection) -> Generator[None]:
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")

    def _give_up(self, error: Exception) -> None:
        logger.warning("{}: nothing is cached: {}", self.path, error)
        self.close()


def _parts(keys: list[bytes], size: int) -> Iterator[list[bytes]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


def _stamp(file: Path) -> str:
    """Changes whenever the file is written; the time of the last change of status cannot be set back."""
    status = file.stat()
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
