"""Reading runs: fettle's own, superseded rows, and the runs of other tools."""

import json
from pathlib import Path

import numpy as np
import pytest

from fettle.errors import RunError
from fettle.runs import EventLog, RunFolder, RunReader, find_run


def new_run(path: Path) -> tuple[RunFolder, EventLog]:
    folder = RunFolder.create(path, config_yaml="model: x\n", metadata={"config_hash": "abc"})
    return folder, EventLog(folder.metrics_path)


def test_columns_grow_and_mark_what_is_missing(tmp_path: Path) -> None:
    _, log = new_run(tmp_path / "run")
    reader = RunReader(tmp_path / "run")
    assert reader.columns("train") == {}
    for step in range(1, 3000):
        log.append("train", {"step": step, "loss": float("nan") if step == 5 else 1.0 / step})
    log.append("train", {"step": 3000, "grad_norm": 2.0})
    reader.refresh()
    columns = reader.columns("train")
    assert columns["step"].tolist() == list(range(1, 3001))
    assert np.isnan(columns["loss"][[4, 2999]]).all()
    assert np.isnan(columns["grad_norm"][:-1]).all()
    assert columns["grad_norm"][-1] == 2.0


def test_rows_after_a_resumed_step_are_superseded(tmp_path: Path) -> None:
    _, log = new_run(tmp_path / "run")
    for step in range(1, 9):
        log.append("train", {"step": step, "loss": 1.0})
    log.append("fixed_eval", {"step": 8, "cross_entropy": 9.0})
    log.append("resume", {"step": 5})
    for step in range(6, 11):
        log.append("train", {"step": step, "loss": 2.0})
    reader = RunReader(tmp_path / "run")
    assert reader.columns("train")["step"].tolist() == list(range(1, 11))
    assert reader.columns("train")["loss"].tolist() == [1.0] * 5 + [2.0] * 5
    assert reader.evals() == []


def test_a_step_told_twice_counts_once(tmp_path: Path) -> None:
    _, log = new_run(tmp_path / "run")
    for step, loss in [(1, 1.0), (2, 2.0), (2, 3.0), (1, 4.0)]:
        log.append("train", {"step": step, "loss": loss})
    columns = RunReader(tmp_path / "run").columns("train")
    assert dict(zip(columns["step"].tolist(), columns["loss"].tolist(), strict=True)) == {1: 4.0}


def test_how_a_run_stands(tmp_path: Path) -> None:
    folder, log = new_run(tmp_path / "run")
    reader = RunReader(folder.path)
    assert reader.state() == "unknown"
    log.append("start", {"step": 0})
    reader.refresh()
    with folder.lock():
        assert reader.state() == "running"
        with pytest.raises(RunError, match="another process"), RunFolder.open(folder.path).lock():
            pass
    assert reader.state() == "crashed"
    log.append("end", {"state": "completed"})
    reader.refresh()
    assert reader.state() == "completed"


def test_runs_are_found_by_their_configuration(tmp_path: Path) -> None:
    new_run(tmp_path / "a")
    assert find_run(tmp_path, "abc") == [tmp_path / "a"]
    assert find_run(tmp_path, "other") == []


def test_a_folder_that_holds_a_run_is_not_made_again(tmp_path: Path) -> None:
    new_run(tmp_path / "run")
    with pytest.raises(RunError, match="holds a run already"):
        new_run(tmp_path / "run")
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="no run folder can be written here"):
        new_run(tmp_path / "file" / "run")


def test_the_earlier_tinker_format_reads_under_our_names(tmp_path: Path) -> None:
    rows = [
        {"type": "train", "step": 10, "train_loss": 1.5, "train_loss_total": 30.0, "completion_tokens": 20},
        {"type": "val", "step": 250, "val_loss": 1.2, "val_batches": 4},
        {"type": "early_stop", "step": 250, "best_val_loss": 1.2, "evals_without_improvement": 5},
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"type": "tr')
    reader = RunReader(path)
    assert reader.columns("train")["loss"].tolist() == [1.5]
    assert reader.columns("train")["loss_sum"].tolist() == [30.0]
    assert [(e.step, e.cross_entropy) for e in reader.evals()] == [(250, 1.2)]
    assert reader.records("early_stop")[0]["best"] == 1.2


def trainer_state(step: int) -> str:
    history = [{"step": s, "loss": 2.0 / s, "epoch": s / 10} for s in range(1, step + 1)]
    return json.dumps({"global_step": step, "log_history": [*history, {"step": step, "eval_loss": 0.5}]})


def test_a_hugging_face_folder_reads_its_newest_state(tmp_path: Path) -> None:
    for step in (5, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(trainer_state(step))
        (folder / "adapter_model.safetensors").write_bytes(b"x")
    reader = RunReader(tmp_path)
    assert reader.kind == "huggingface"
    assert len(reader.columns("train")["loss"]) == 10
    assert [(c.step, c.cross_entropy) for c in reader.checkpoints()] == [(5, None), (10, 0.5)]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("trainer_state.json", "{", "is no JSON"),
        ("trainer_state.json", "{}", "holds no log_history"),
        ("notes.txt", "x", "is no run"),
    ],
)
def test_what_is_no_run_says_so(tmp_path: Path, name: str, content: str, problem: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(RunError, match=problem):
        RunReader(tmp_path / name)
    with pytest.raises(RunError, match="there is no such run"):
        RunReader(tmp_path / "nothing")


@pytest.mark.real_data
def test_a_real_trainer_state(real_data: Path) -> None:
    reader = RunReader(real_data / "hf_runs" / "law-llm.trainer_state.json")
    assert [e.step for e in reader.evals()] == [100, 200, 300, 400, 500, 600]
    assert reader.columns("train")["loss"][-1] == pytest.approx(5.0244)
    assert reader.evals()[-1].cross_entropy == pytest.approx(0.3038, abs=1e-4)


def test_the_log_is_not_flooded(tmp_path: Path) -> None:
    from loguru import logger

    from fettle.runs import configure_logging

    configure_logging(tmp_path / "train.log")
    for _ in range(1000):
        logger.debug("loss trend: stable")
    logger.debug("something else")
    logger.remove()
    lines = (tmp_path / "train.log").read_text().splitlines()
    assert len(lines) == 3
    assert "×1000" in lines[1]
