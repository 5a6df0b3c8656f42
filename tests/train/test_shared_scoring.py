"""Scoring by several processes: real ones, over gloo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from fettle import Scores, Sequence, score
from fettle.errors import ModelError
from fettle.train.shared_scoring import shared_score
from tiny_models import tiny_model
from train.several import several

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
FIELDS = ("cross_entropy_sum", "tokens", "exact_match", "offsets", "logprob", "correct", "predicted")


def sequences() -> list[Sequence]:
    rng = np.random.default_rng(0)
    made: list[Sequence] = []
    for length in rng.integers(6, 60, 23).tolist():
        ids = rng.integers(3, 97, length).tolist()
        prompt = int(rng.integers(1, length - 2))
        made.append(Sequence(ids, [i >= prompt for i in range(length)]))
    return made


def model() -> Any:
    torch.manual_seed(0)
    return tiny_model("qwen3", vocab_size=97).eval()


def work(folder: Path, fails: int | None) -> None:
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    scored: Any = None if rank == fails else model()
    try:
        scores = shared_score(scored, sequences(), batch_tokens=256)
    except (AttributeError, ModelError, TypeError) as error:
        (folder / f"error-{rank}").write_text(f"{type(error).__name__}: {error}")
    else:
        np.savez(folder / f"{rank}.npz", **{name: getattr(scores, name) for name in FIELDS})
    torch.distributed.destroy_process_group()


def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    alone: Scores = score(model(), sequences(), batch_tokens=256)
    several(lambda: work(tmp_path, None), 2)
    for rank in range(2):
        shared = np.load(tmp_path / f"{rank}.npz")
        for name in ("tokens", "exact_match", "offsets", "correct", "predicted"):
            assert np.array_equal(shared[name], getattr(alone, name)), name
        assert shared["cross_entropy_sum"] == pytest.approx(alone.cross_entropy_sum, abs=1e-5)
        assert shared["logprob"] == pytest.approx(alone.logprob, abs=1e-5)


def test_a_failure_of_one_process_reaches_all(tmp_path: Path) -> None:
    several(lambda: work(tmp_path, 1), 2)
    assert "process 1 could not score" in (tmp_path / "error-0").read_text()
    assert (tmp_path / "error-0").read_text().startswith(ModelError.__name__)
    assert (tmp_path / "error-1").exists()


def test_without_other_processes_it_is_score_itself() -> None:
    one, other = shared_score(model(), sequences()), score(model(), sequences())
    assert np.array_equal(one.logprob, other.logprob)
