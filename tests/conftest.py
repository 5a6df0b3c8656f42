"""Shared by every test: one torch thread, an offline hub, real data where it is."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

from page.browser import chromium

REAL_DATA = Path(os.environ.get("FETTLE_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pytest_collection_finish() -> None:
    """What was imported stays: to look through all of it again takes a collection half a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real data that lies beside the project; the test skips where it does not."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real data is not at {REAL_DATA}; set FETTLE_REAL_DATA to its folder")
    return REAL_DATA


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Columns of long logs are kept among the files of the tests, also by their servers."""
    os.environ["FETTLE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> None:
    """Two threads on two busy cores are slower than one, and sums would depend on the count."""
    try:
        import torch
    except ModuleNotFoundError:
        return
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One for all tests of a worker: a second one beside it would be refused."""
    with chromium() as browser:
        yield browser
