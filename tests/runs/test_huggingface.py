"""Hugging Face output folders: states, evals, checkpoints, and how the run stands."""

import json
from pathlib import Path
from typing import Any

import pytest

from fettle.api import open_run
from fettle.errors import RunError
from fettle.runs import RunReader

LOSSES = {10: 1.0, 20: 0.5, 30: 0.8}


def state(step: int, **fields: Any) -> dict[str, Any]:
    history: list[dict[str, Any]] = []
    for s in range(1, step + 1):
        history.append({"step": s, "loss": 2.0 / s, "learning_rate": 1e-4, "epoch": s / 10})
        if s in LOSSES:
            history.append({"step": s, "eval_loss": LOSSES[s], "eval_runtime": 3.0, "epoch": s / 10})
    return {"global_step": step, "max_steps": 30, "log_history": history, **fields}


def save(folder: Path, step: int, **fields: Any) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "adapter_model.safetensors").write_bytes(b"weights")
    (path / "optimizer.pt").write_bytes(b"moments")
    (path / "trainer_state.json").write_text(json.dumps(state(step, **fields)))
    return path


def test_an_output_folder_is_read_by_its_highest_step_and_judged(tmp_path: Path) -> None:
    for step in (30, 10, 20):
        save(tmp_path, step)
    run = open_run(tmp_path)
    assert (run.kind, run.state()) == ("huggingface", "completed")
    assert run.columns("train")["step"].tolist() == list(range(1, 31))
    assert [(e.step, e.cross_entropy) for e in run.evals()] == [(10, 1.0), (20, 0.5), (30, 0.8)]
    assert run.evals()[0].extra == {"eval_runtime": 3.0}
    verdict = run.verdict()
    assert verdict.checkpoint == {"step": 20, "path": str(tmp_path / "checkpoint-20")}


def test_the_checkpoint_that_the_trainer_calls_best_is_marked_wherever_it_was_trained(tmp_path: Path) -> None:
    for step in (10, 20):
        save(tmp_path, step, best_model_checkpoint="/elsewhere/out/checkpoint-20")
    assert [c.extra for c in RunReader(tmp_path).checkpoints()] == [{}, {"best_of_trainer": True}]


def test_only_folders_with_weights_are_checkpoints(tmp_path: Path) -> None:
    save(tmp_path, 10)
    stripped = save(tmp_path, 20)
    (stripped / "adapter_model.safetensors").unlink()
    sharded = save(tmp_path, 30)
    (sharded / "adapter_model.safetensors").unlink()
    (sharded / "pytorch_model_fsdp_0").mkdir()
    assert [c.step for c in RunReader(tmp_path).checkpoints()] == [10, 30]


def test_weights_in_the_output_folder_itself_are_the_last_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 10)
    (tmp_path / "model.safetensors").write_bytes(b"x" * 10)
    (tmp_path / "trainer_state.json").write_text(json.dumps(state(30)))
    last = RunReader(tmp_path).checkpoints()[-1]
    assert (last.step, last.path, last.cross_entropy) == (30, tmp_path, 0.8)


def test_with_a_best_checkpoint_it_is_not_said_whose_weights_the_output_folder_holds(tmp_path: Path) -> None:
    save(tmp_path, 10)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    (tmp_path / "trainer_state.json").write_text(
        json.dumps(state(30, best_model_checkpoint="out/checkpoint-10"))
    )
    assert [c.step for c in RunReader(tmp_path).checkpoints()] == [10]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_steps": 30}, "completed"),
        ({"max_steps": 29}, "completed"),
        ({"max_steps": 31}, "unknown"),
        ({"max_steps": -1}, "unknown"),
        ({"max_steps": None}, "unknown"),
    ],
)
def test_a_bare_state_says_whether_all_steps_are_done(
    tmp_path: Path, fields: dict[str, Any], expected: str
) -> None:
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps(state(30, **fields)))
    assert RunReader(path).state() == expected


def test_the_summary_of_the_end_completes_a_run_without_max_steps(tmp_path: Path) -> None:
    path = tmp_path / "trainer_state.json"
    value = state(30, max_steps=0)
    value["log_history"].append({"step": 30, "train_runtime": 12.0, "train_loss": 1.0})
    path.write_text(json.dumps(value))
    assert RunReader(path).state() == "completed"


@pytest.mark.parametrize(("count", "expected"), [(2, "unknown"), (3, "early_stopped")])
def test_early_stopping_is_told_by_its_own_counter(tmp_path: Path, count: int, expected: str) -> None:
    stopping = {
        "args": {"early_stopping_patience": 3, "early_stopping_threshold": 0.0},
        "attributes": {"early_stopping_patience_counter": count},
    }
    save(tmp_path, 10, stateful_callbacks={"EarlyStoppingCallback": stopping})
    assert RunReader(tmp_path).state() == expected


def test_a_newest_state_that_was_cut_off_gives_the_one_before_and_says_so(tmp_path: Path) -> None:
    save(tmp_path, 10)
    newest = save(tmp_path, 20) / "trainer_state.json"
    newest.write_bytes(newest.read_bytes()[:-20])
    run = open_run(tmp_path)
    assert [e.step for e in run.evals()] == [10]
    assert any("cut off" in w and "checkpoint-10/trainer_state.json" in w for w in run.verdict().warnings)
    (tmp_path / "checkpoint-10" / "trainer_state.json").write_text("")
    with pytest.raises(RunError, match="cut off"):
        RunReader(tmp_path)


@pytest.mark.parametrize(
    ("content", "problem"), [("", "is empty"), ("[1]", "is no JSON object"), ("{}", "holds no log_history")]
)
def test_a_state_that_cannot_be_read_is_an_error(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "trainer_state.json"
    path.write_text(content)
    with pytest.raises(RunError, match=problem):
        RunReader(path)


def test_a_state_too_large_for_memory_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fettle.runs.huggingface.LARGEST_STATE_BYTES", 100)
    save(tmp_path, 10)
    with pytest.raises(RunError, match=r"too large for a trainer_state\.json"):
        RunReader(tmp_path)


def test_nan_as_the_trainer_writes_it_is_no_number_and_says_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "trainer_state.json"
    history = [{"step": 1, "loss": float("nan")}, {"step": 1, "eval_loss": float("inf")}, "odd", {"loss": 1}]
    path.write_text(json.dumps({"global_step": 1, "log_history": history}))
    reader = RunReader(path)
    assert reader.records("train")[0]["loss_nonfinite"] == "nan"
    assert reader.evals()[0].cross_entropy is None
    assert reader.evals()[0].extra == {"cross_entropy_nonfinite": "inf"}


def test_several_evaluation_sets_are_one_eval_by_the_first_of_them(tmp_path: Path) -> None:
    path = tmp_path / "trainer_state.json"
    history = [
        {"step": s, f"eval_{name}_loss": loss + s, "epoch": 1}
        for s in (1, 2)
        for name, loss in (("law", 1.0), ("code", 5.0))
    ]
    path.write_text(json.dumps({"global_step": 2, "log_history": history}))
    reader = RunReader(path)
    assert [(e.cross_entropy, e.extra["eval_code_loss"]) for e in reader.evals()] == [(2.0, 6.0), (3.0, 7.0)]
    assert reader.problems == ["there are several evaluation sets: the eval loss read is eval_law_loss"]


def test_a_growing_folder_is_followed(tmp_path: Path) -> None:
    save(tmp_path, 10)
    reader = RunReader(tmp_path)
    save(tmp_path, 20)
    reader.refresh()
    assert reader.columns("train")["step"].tolist() == list(range(1, 21))
    assert [e.step for e in reader.evals()] == [10, 20]


def test_an_output_folder_with_fettles_own_run_inside_is_read_as_that_run(tmp_path: Path) -> None:
    save(tmp_path, 10)
    inner = tmp_path / "fettle"
    inner.mkdir()
    (inner / "metadata.json").write_text("{}")
    (inner / "config.yaml").write_text("model: x\n")
    (inner / "metrics.jsonl").write_text('{"type": "train", "timestamp": 1, "step": 1, "loss": 7.0}\n')
    reader = RunReader(tmp_path)
    assert (reader.kind, reader.name) == ("fettle", tmp_path.name)
    assert reader.columns("train")["loss"].tolist() == [7.0]


@pytest.mark.real_data
def test_a_real_run_is_completed_and_its_losses_are_not_comparable(real_data: Path) -> None:
    run = open_run(real_data / "hf_runs" / "law-llm.trainer_state.json")
    assert run.state() == "completed"
    assert run.problems == []
    assert any("gradient accumulation" in w.lower() or "times" in w for w in run.verdict().warnings)
