"""fettle.record and fettle.HeldOut in loops written by hand, and the example of one."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

import fettle
from fettle.errors import ConfigError, RunError
from forked import forked
from tiny_models import tiny_model, tiny_tokenizer
from train.sums import write_sums

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def held_out(tmp_path: Path) -> fettle.HeldOut:
    return fettle.HeldOut(write_sums(tmp_path / "valid.jsonl", range(60, 66)), tiny_tokenizer())


def train(recorder: fettle.Recorder, held_out: fettle.HeldOut, model: Any, upto: int, rate: float) -> None:
    """A loop by hand: the embedding grows, every second step is evaluated and saved."""
    for step in range(recorder.last_step + 1, upto + 1):
        model.get_input_embeddings().weight.data.mul_(1.0 + rate)
        recorder.step(step, loss_sum=20.0 / step, completion_tokens=10, tokens=30, seconds=0.1)
        if step % 2 == 0:
            judgement = recorder.evaluation(step, held_out.evaluate(model))
            recorder.checkpoint(step, model.save_pretrained)
            if judgement.should_stop:
                return


def test_a_loop_by_hand_completes_and_its_eval_is_the_score(tmp_path: Path, held_out: fettle.HeldOut) -> None:
    model = tiny_model()
    model.train()
    with fettle.record(
        tmp_path / "run", total_steps=4, held_out=held_out, config={"path": tmp_path, "lr": 0.1}
    ) as recorder:
        assert fettle.open_run(tmp_path / "run").state() == "running"
        train(recorder, held_out, model, 4, 0.1)
    run = fettle.open_run(tmp_path / "run")
    assert (run.state(), run.records("end")[-1]["reason"]) == ("completed", "all 4 steps are done")
    assert run.columns("train")["loss"].tolist() == pytest.approx([2.0, 1.0, 2 / 3, 0.5])
    assert [c.step for c in run.checkpoints() if c.path and c.score is not None] == [2, 4]
    expected = fettle.score(model, held_out.eval_set.sequences)
    assert model.training
    assert run.evals()[-1].cross_entropy == pytest.approx(expected.cross_entropy, rel=1e-6)
    assert np.array_equal(held_out.evaluate(model).tokens, expected.tokens)
    assert run.metadata()["data"]["fixed_eval"]["examples"] == len(held_out) == 6
    assert run.config()["config"] == {"path": str(tmp_path), "lr": 0.1}


def test_a_loop_that_obeys_early_stopping_ends_so(tmp_path: Path, held_out: fettle.HeldOut) -> None:
    with fettle.record(tmp_path / "run", total_steps=40, early_stopping_patience=2) as recorder:
        train(recorder, held_out, tiny_model(), 40, 0.0)
    run = fettle.open_run(tmp_path / "run")
    assert (run.state(), run.records("end")[-1]["step"]) == ("early_stopped", 6)


def test_a_loop_that_trains_on_after_the_advice_is_not_early_stopped(
    tmp_path: Path, held_out: fettle.HeldOut
) -> None:
    with fettle.record(tmp_path / "run", early_stopping_patience=1) as recorder:
        train(recorder, held_out, tiny_model(), 4, 0.0)
        recorder.step(5, loss_sum=1.0, completion_tokens=1, tokens=1)
    assert fettle.open_run(tmp_path / "run").state() == "completed"


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt at step 2"),
        (SystemExit(3), "interrupted", "SystemExit at step 2"),
        (ValueError("no more data"), "failed", "ValueError: no more data"),
    ],
)
def test_an_exception_ends_the_run_and_goes_on(
    tmp_path: Path, error: BaseException, state: str, reason: str
) -> None:
    def loop() -> None:
        with fettle.record(tmp_path / "run") as recorder:
            recorder.step(2, loss_sum=1.0, completion_tokens=1, tokens=1)
            raise error

    with pytest.raises(type(error)):
        loop()
    run = fettle.open_run(tmp_path / "run")
    assert (run.state(), run.records("end")[-1]["reason"]) == (state, reason)


def test_a_loop_that_leaves_on_nan_has_failed_and_one_that_leaves_early_was_interrupted(
    tmp_path: Path,
) -> None:
    for name, loss, state in (("nan", float("nan"), "failed"), ("short", 1.0, "interrupted")):
        with fettle.record(tmp_path / name, total_steps=5) as recorder:
            recorder.step(3, loss_sum=loss, completion_tokens=1, tokens=1)
        assert fettle.open_run(tmp_path / name).state() == state


def test_a_resumed_loop_has_the_counters_of_one_that_never_stopped(
    tmp_path: Path, held_out: fettle.HeldOut
) -> None:
    # No change is as large as this threshold: the count goes up.
    settings: dict[str, Any] = {"early_stopping_threshold": 9.0, "total_steps": 6, "held_out": held_out}
    with fettle.record(tmp_path / "whole", **settings) as recorder:
        train(recorder, held_out, tiny_model(), 6, 0.01)
    with fettle.record(tmp_path / "cut", **settings) as recorder:
        train(recorder, held_out, tiny_model(), 5, 0.01)
    checkpoint = tmp_path / "cut" / "checkpoints" / "checkpoint-2"
    with fettle.record(tmp_path / "cut", **settings, resume_from=checkpoint) as recorder:
        assert recorder.last_step == 2
        model = tiny_model()
        for _ in range(2):
            model.get_input_embeddings().weight.data.mul_(1.01)
        train(recorder, held_out, model, 6, 0.01)
    was, now = (
        json.loads((tmp_path / name / "checkpoints" / "checkpoint-6" / "fettle.json").read_text())["state"]
        for name in ("whole", "cut")
    )
    assert now == was
    assert now["early_stopping"]["evals_without_improvement"] == 2
    run = fettle.open_run(tmp_path / "cut")
    assert run.columns("train")["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert run.state() == "completed"


def test_what_cannot_be_recorded_is_refused(tmp_path: Path, held_out: fettle.HeldOut) -> None:
    with (
        pytest.raises(ConfigError, match=r"record\(alerts=\.\.\.\).*'nan'"),
        fettle.record(tmp_path / "run", alerts={"nan": 1}),
    ):
        pass
    with (
        pytest.raises(RunError, match=r"checkpoint-9.*resume_from"),
        fettle.record(tmp_path / "run", resume_from=tmp_path / "checkpoint-9"),
    ):
        pass
    assert not (tmp_path / "run").exists()
    with fettle.record(tmp_path / "run", held_out=held_out) as recorder:
        checkpoint = recorder.checkpoint(1, tiny_model().save_pretrained)
    other = fettle.HeldOut(write_sums(tmp_path / "other.jsonl", range(4)), tiny_tokenizer())
    with (
        pytest.raises(RunError, match=r"other\.jsonl is not the file"),
        fettle.record(tmp_path / "run", held_out=other, resume_from=checkpoint),
    ):
        pass


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
def test_the_accelerate_example_trains_stops_and_is_judged(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    pytest.importorskip("peft")
    from accelerate.state import AcceleratorState

    tokenizer = tiny_tokenizer()
    tiny_model(vocab_size=len(tokenizer)).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    train_file = write_sums(tmp_path / "train.jsonl", range(24))
    valid_file = write_sums(tmp_path / "valid.jsonl", range(60, 66))
    arguments = ["--output-dir", str(tmp_path / "out"), "--steps", "8", "--eval-steps", "4"]
    arguments += ["--learning-rate", "1e-2"]

    def example() -> None:
        AcceleratorState._reset_state(reset_partial_state=True)
        files = [tmp_path / "model", train_file, valid_file]
        sys.argv = ["accelerate_loop.py", *map(str, files), *arguments]
        runpy.run_path(str(EXAMPLES / "accelerate_loop.py"), run_name="__main__")

    forked(example, {"ACCELERATE_USE_CPU": "true"})
    run = fettle.open_run(tmp_path / "out")
    assert run.state() == "completed"
    assert run.columns("train")["step"].tolist() == list(range(1, 9))
    assert run.columns("train")["loss"][-1] < run.columns("train")["loss"][0]
    assert [e.step for e in run.evals()] == [4, 8]
    best = run.verdict().checkpoint
    assert best is not None
    assert (
        tmp_path / "out" / "checkpoints" / f"checkpoint-{best['step']}" / "adapter_model.safetensors"
    ).is_file()


def test_a_hand_loop_leaves_random_state_and_weights_alone(held_out: fettle.HeldOut) -> None:
    model = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    held_out.evaluate(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
