"""Runs that are held open: the ones used last, as many as memory allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from fettle.server import open_run
from fettle.server.counters import Counters
from fettle.server.open_run import OpenRun, OpenRuns
from server.runs_on_disk import finished


def read(runs: OpenRuns, path: Path) -> OpenRun:
    opened = runs.get(path)
    with opened.reading() as run:
        assert run.counts()["train"] > 0
    return opened


def test_runs_that_take_too_much_memory_are_let_go_those_used_longest_ago_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, c = (tmp_path / name for name in "abc")
    for path in (a, b, c):
        finished(path)
    runs = OpenRuns(tmp_path, Counters())
    first, second = read(runs, a), read(runs, b)
    assert first.nbytes == second.nbytes > 0
    monkeypatch.setattr(open_run, "MOST_BYTES", 2 * first.nbytes)
    assert runs.get(a) is first
    third = read(runs, c)
    # By now there are three: b was asked for longest ago.
    assert runs.get(c) is third
    assert runs.get(a) is first
    assert runs.get(b) is not second


def test_the_run_used_last_is_held_however_large_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(tmp_path / "a")
    monkeypatch.setattr(open_run, "MOST_BYTES", 1)
    runs = OpenRuns(tmp_path, Counters())
    only = read(runs, tmp_path / "a")
    assert runs.get(tmp_path / "a") is only
