"""Checkpoints side by side on a real Ray: the numbers of one process, whatever dies on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from checkpoints_on_disk import run_evaluation as run
from fettle.config import evaluation_config
from fettle.errors import MissingExtraError, RunError
from fettle.evaluation import parallel
from fettle.evaluation.cache import ScoreCache
from fettle.evaluation.loaded_model import LoadedModel
from fettle.evaluation.results import Progress
from fettle.evaluation.work import Items

# Ray's own: of what its Python supports, of files it leaves to the collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
ASKED = evaluation_config(None, {"generation": {"max_new_tokens": 4}, "checkers": {"same": "exact"}})


def workers() -> list[psutil.Process]:
    """Processes of Ray that hold a model."""
    return [p for p in psutil.process_iter(["name"]) if (p.info["name"] or "").startswith("ray::Worker")]


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_time_and_no_number(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []

    def kill_one(at: Progress) -> None:
        if at.stage == "pieces" and not killed:
            assert {worker.nice() for worker in workers()} == {psutil.Process().nice()}
            victim = workers()[0]
            killed.append(victim.pid)
            os.kill(victim.pid, signal.SIGKILL)

    cut = root / "run/checkpoints/checkpoint-10/adapter_config.json"
    cut.write_text(cut.read_text().replace('"r": 4', '"r": 8'))
    (cut.parent / "manifest.json").unlink()
    side_by_side = run(root, config=ASKED, parallel=2, on_progress=kill_one)
    assert killed
    assert not workers()
    ran = {r.subject.name: (r.summary["samples_run"], r.summary["answers_run"]) for r in side_by_side.results}
    assert ran == {"base": (24, 24), "step_20": (24, 24), "step_30": (24, 24)}
    assert "has the shape" in next(s.reason for s in side_by_side.skipped if s.name == "step_10")

    with monkeypatch.context() as patch:
        patch.setattr(LoadedModel, "_load", lambda *_: pytest.fail("a model is loaded"))
        run(root, "20,30", config=ASKED)  # All that they ran is known.

    shutil.rmtree(root / "cache")
    alone = run(root, config=ASKED)
    for one, other in zip(alone.results, side_by_side.results, strict=True):
        assert one.subject == other.subject
        np.testing.assert_allclose(one.samples.cross_entropy_sum, other.samples.cross_entropy_sum, rtol=1e-6)
        rows, others = (texts(e.folder, one.subject.name) for e in (alone, side_by_side))
        for row, same in zip(rows, others, strict=True):
            assert [a["text"] for a in row["answers"]] == [a["text"] for a in same["answers"]]
            assert numbers(row) == pytest.approx(numbers(same), rel=1e-5)


def texts(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"results/{name}/predictions.jsonl").open()]


def numbers(row: dict[str, Any]) -> dict[str, float | None]:
    return {key: value for key, value in row.items() if value is None or isinstance(value, (int, float))}


@pytest.mark.slow
def test_work_that_kills_every_worker_is_given_up(tmp_path: Path) -> None:
    class Deadly:
        size = 1

        def run(self, model: Any) -> Iterator[Items]:
            import os

            os._exit(1)

    with pytest.raises(RunError, match="a worker died 4 times over the same work"):
        parallel.spread([Deadly()], ScoreCache(tmp_path / "cache"), 1)  # type: ignore[list-item]


def test_as_many_workers_as_the_memory_has_room_for(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = str(pristine / "base")
    size = (pristine / "base/model.safetensors").stat().st_size
    need = 2 * size + parallel.WORKER_BYTES
    monkeypatch.setattr(parallel.os, "cpu_count", lambda: 16)
    for free, expected in ((0, 1), (3 * need, 3), (100 * need, 16)):
        monkeypatch.setattr(parallel, "free_host_bytes", lambda free=free: free)
        assert parallel.workers_that_fit([base, base]) == expected


def test_nothing_to_do_starts_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(root, "20")
    monkeypatch.setattr(parallel, "_ray", lambda *_: pytest.fail("Ray is started"))
    again = run(root, "20", parallel=2)
    assert [r.summary["samples_run"] for r in again.results] == [0, 0]


def test_without_ray_the_extra_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(parallel, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"fettle\[scale\]"):
        run(root, parallel=2)


def test_a_cluster_that_is_not_there_is_named(root: Path) -> None:
    with pytest.raises(RunError, match="nobody answers there"):
        run(root, "20", parallel=1, ray_address="127.0.0.1:1")
