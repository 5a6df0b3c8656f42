"""One server over a few runs, shared by the tests that only read."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import httpx
import pytest

from server.live_server import serving
from server.runs_on_disk import finished


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("served") / "runs"
    finished(root / "alpha", tags=["keep"])
    finished(root / "team" / "beta", steps=30)
    return root


@pytest.fixture(scope="package")
def client(folder: Path) -> Generator[httpx.Client]:
    with serving(folder) as client:
        yield client
