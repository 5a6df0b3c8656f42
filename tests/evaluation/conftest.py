"""A run with checkpoints, made once; each test has a copy that it may damage, and a cache of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from checkpoints_on_disk import write_run


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("evaluated")
    write_run(root)
    return root


@pytest.fixture
def root(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(pristine / "run", tmp_path / "run")
    shutil.copy(pristine / "valid.jsonl", tmp_path)
    monkeypatch.setenv("FETTLE_CACHE", str(tmp_path / "cache"))
    return tmp_path
