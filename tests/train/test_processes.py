"""FettleCallback in data-parallel training: real processes, also launched as people launch them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from fettle import open_run, score  # noqa: E402
from fettle.data import ChatEncoder, read_examples  # noqa: E402
from fettle.runs import load_samples  # noqa: E402
from tiny_models import tiny_tokenizer  # noqa: E402
from train.several import several  # noqa: E402
from train.trainer_process import main  # noqa: E402

TESTS = Path(__file__).parents[1]


def launch(valid: Path, out: Path) -> None:
    script = str(TESTS / "train" / "trainer_process.py")
    launched = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"),
            *(script, str(valid), str(out)),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert launched.returncode == 0, launched.stderr[-3000:]


def fork(valid: Path, out: Path) -> None:
    several(lambda: main(str(valid), str(out)), 2)


@pytest.mark.timeout(280)
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("start", [fork, pytest.param(launch, marks=pytest.mark.slow)])
def test_processes_share_the_fixed_eval_and_only_the_first_writes(
    tmp_path: Path, start: Callable[[Path, Path], None]
) -> None:
    """Seven chats over two processes; the second has one less, and none writes what the other did.

    Of 6 steps, 4 are done: somebody asks the first process for a pause, and then to stop.
    """
    valid, out = tmp_path / "valid.jsonl", tmp_path / "out"
    chats = [
        [
            {"role": "user", "content": f"what is {i} plus {i}" + " and why" * (i % 4)},
            {"role": "assistant", "content": f"it is {2 * i}" + ", truly" * (i % 3)},
        ]
        for i in range(7)
    ]
    valid.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    start(valid, out)

    assert (out / "scored-0").read_text().split() == ["4", "4"]  # evals after steps 2 and 4
    assert (out / "scored-1").read_text().split() == ["3", "3"]
    run = open_run(out / "fettle")
    assert run.metadata()["processes"] == 2
    raw = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in raw if r["type"] == "train"] == [1, 2, 3, 4]
    assert [r["step"] for r in raw if r["type"] in ("fixed_eval", "checkpoint")] == [2, 2, 4, 4]
    assert [r["type"] for r in raw if r["type"] in ("start", "resume", "end")] == ["start", "end"]
    asked = [(r["action"], r["step"]) for r in raw if r["type"] == "control"]
    assert asked == [("pause", 1), ("resume", 1), ("stop", 4)]
    assert raw[-1]["state"] == "interrupted"
    assert [r["step"] for r in run.predictions()] == [2, 2, 4, 4]
    # 2 rows of 7 predicted tokens each, in both processes.
    assert run.columns("train")["completion_tokens"].tolist() == [28] * 4

    encoder = ChatEncoder(tiny_tokenizer())
    encoded = encoder.encode_all(read_examples(valid))
    for step in (2, 4):
        saved = transformers.AutoModelForCausalLM.from_pretrained(out / f"checkpoint-{step}")
        alone = score(saved, encoded.sequences)
        shared = load_samples(run.path / "fixed_eval", step)
        assert shared is not None
        assert np.array_equal(shared.exact_match, alone.exact_match)
        assert np.array_equal(shared.tokens, alone.tokens)
        assert shared.cross_entropy_sum == pytest.approx(alone.cross_entropy_sum, abs=1e-5)
        assert run.evals()[step // 2 - 1].cross_entropy == pytest.approx(alone.cross_entropy, abs=1e-5)
