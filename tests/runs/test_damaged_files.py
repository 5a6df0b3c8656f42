"""Whatever bytes stand in the files of another tool: an error of one line, or a verdict on what is left."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fettle.api import open_run
from fettle.decide import rank_checkpoints
from fettle.errors import RunError

ODD = [
    None,
    True,
    "1",
    [],
    {},
    -1,
    1.5,
    1e30,
    -0.0,
    2**70,
    10**400,
    [1],
    {"a": 1},
    "",
    float("nan"),
    float("-inf"),
]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def huggingface(folder: Path) -> Path:
    history: list[dict[str, Any]] = [{"step": s, "loss": 1.0 / s, "epoch": s / 5} for s in range(1, 11)]
    history += [{"step": s, "eval_loss": 1.0 / s, "eval_exact_match": 0.5} for s in (5, 10)]
    stopping = {
        "args": {"early_stopping_patience": 3},
        "attributes": {"early_stopping_patience_counter": 1},
    }
    path = folder / "trainer_state.json"
    path.write_text(
        json.dumps(
            {
                "global_step": 10,
                "max_steps": 20,
                "best_model_checkpoint": "out/checkpoint-5",
                "stateful_callbacks": {"EarlyStoppingCallback": stopping},
                "log_history": history,
            }
        )
    )
    return path


def llama_factory(folder: Path) -> Path:
    path = folder / "trainer_log.jsonl"
    rows = [{"current_steps": s, "total_steps": 10, "loss": 1.0, "lr": 1e-4} for s in range(1, 11)]
    path.write_bytes(lines([*rows, {"current_steps": 10, "total_steps": 10, "eval_loss": 0.5}]))
    return path


def tinker_cookbook(folder: Path) -> Path:
    path = folder / "metrics.jsonl"
    path.write_bytes(lines([{"step": s, "train_mean_nll": 1.0, "test/nll": 1.0} for s in range(10)]))
    saved = [{"name": f"{s:06d}", "epoch": 0, "batch": s, "sampler_path": "tinker://a"} for s in (2, 4)]
    (folder / "checkpoints.jsonl").write_bytes(lines(saved))
    return path


def any_log(folder: Path) -> Path:
    path = folder / "metrics.jsonl"
    rows: list[dict[str, Any]] = [{"step": s, "loss": 1.0, "lr": 1e-4} for s in range(1, 10)]
    path.write_bytes(lines([*rows, {"step": 9, "val_loss": 0.5}, {"type": "early_stop", "step": 9}]))
    return path


def tensorboard(folder: Path) -> Path:
    writers = pytest.importorskip("torch.utils.tensorboard", reason="needs torch and tensorboard")
    with writers.SummaryWriter(str(folder)) as writer:
        for step in range(1, 11):
            writer.add_scalar("train/loss", 1.0 / step, step)
            writer.add_scalar("eval/loss", 1.0 / step, step)
    return next(folder.glob("*tfevents*"))


FORMATS: list[Callable[[Path], Path]] = [huggingface, llama_factory, tinker_cookbook, any_log, tensorboard]


def judged(path: Path) -> bool:
    """Whether a verdict could be given; RunError is the only other way out."""
    try:
        run = open_run(path)
        run.refresh()
        run.verdict().to_json()
        rank_checkpoints(run.checkpoints(), run.evals(), run.columns("train"))
    except RunError as error:
        told = str(error)
    else:
        return True
    assert "\n" not in told
    assert str(path.parent) in told
    return False


def damaged(content: bytes, rng: random.Random) -> bytes:
    at, to = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return rng.choice(
        [
            content[:at],
            content[at:],
            content[:at] + content[to:],
            content[:at] + rng.randbytes(rng.randint(1, 40)) + content[at:],
            content[:at] + bytes(to - at) + content[to:],
            content[:to] + content[at:],
        ]
    )


@pytest.mark.parametrize("make", FORMATS, ids=lambda make: make.__name__)
def test_any_damage_gives_an_error_or_a_partial_answer(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    content = path.read_bytes()
    assert judged(path)
    rng = random.Random(0)
    outcomes: list[bool] = []
    for _ in range(60):
        path.write_bytes(damaged(content, rng))
        outcomes.append(judged(path))
    assert True in outcomes


def odd(value: Any, rng: random.Random) -> Any:
    """The same value with some of what is in it replaced."""
    if isinstance(value, dict) and rng.random() < 0.9:
        return {key: odd(inner, rng) for key, inner in value.items()}
    if isinstance(value, list) and rng.random() < 0.9:
        return [odd(inner, rng) for inner in value]
    return rng.choice(ODD) if rng.random() < 0.1 else value


@pytest.mark.parametrize("make", FORMATS[:-1], ids=lambda make: make.__name__)
def test_values_of_the_wrong_kind_give_an_error_or_a_partial_answer(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    make(tmp_path)
    rng = random.Random(0)
    contents = {path: path.read_text() for path in tmp_path.iterdir()}
    for _ in range(60):
        for path, content in contents.items():
            if path.suffix == ".json":
                path.write_text(json.dumps(odd(json.loads(content), rng)))
            else:
                path.write_bytes(lines([odd(json.loads(line), rng) for line in content.splitlines()]))
        judged(next(p for p in contents if p.name != "checkpoints.jsonl"))
