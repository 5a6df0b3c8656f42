"""The cache: shared by processes, never in the way."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fettle.errors import RunError
from fettle.evaluation.cache import ScoreCache

FILL = """
import sys
from pathlib import Path
from fettle.evaluation.cache import ScoreCache
cache = ScoreCache(Path(sys.argv[1]))
for i in range(200):
    cache.put([(f"{sys.argv[2]} {i} {j}".encode(), b"x" * 50) for j in range(5)])
"""


def test_many_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    workers = [subprocess.Popen([sys.executable, "-c", FILL, str(path), str(i)]) for i in range(3)]
    assert [worker.wait(120) for worker in workers] == [0, 0, 0]
    assert ScoreCache(path).info().entries == 3000


def test_more_keys_than_a_query_holds(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path / "scores.sqlite")
    items = {f"{i}".encode(): f"value {i}".encode() for i in range(3000)}
    cache.put(items.items())
    found = cache.get([*items, b"none"])
    assert found == items
    assert (cache.hits, cache.misses) == (3000, 1)


@pytest.mark.parametrize("damage", ["no database", "folder", "read-only"])
def test_what_cannot_be_used_as_a_cache_only_costs_time(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "scores.sqlite"
    if damage == "no database":
        path.write_bytes(b"garbage" * 1000)
    elif damage == "folder":
        path.mkdir()
    else:
        path = Path("/proc/scores.sqlite")
    cache = ScoreCache(path)
    cache.put([(b"key", b"value")])
    assert cache.get([b"key"]) == {}
    with pytest.raises(RunError, match="cannot be used as a cache"):
        cache.info()


def test_what_was_not_used_lately_goes(tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    cache = ScoreCache(path)
    cache.put([(b"old", b"1"), (b"read", b"2"), (b"new", b"3")])
    weeks_ago = time.time() - 40 * 86_400
    with sqlite3.connect(path) as db:
        db.execute("UPDATE scores SET used = ? WHERE key != ?", (weeks_ago, b"new"))
    db.close()
    cache.get([b"read"])
    assert cache.prune(30) == 1
    assert set(cache.get([b"old", b"read", b"new"])) == {b"read", b"new"}
    assert cache.prune(0) == 2
