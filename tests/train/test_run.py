"""`fettle train` as a whole: killed, stopped, resumed, refused."""

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fettle.api import open_run
from fettle.cli import main
from fettle.config import load_config
from fettle.errors import DataError, FettleError, ModelError, RunError
from fettle.runs import RunReader, list_checkpoints
from fettle.scoring import score
from fettle.train.job import train
from fettle.train.local import LocalBackend
from fettle.train.pipeline import DoneStep
from forked import forked
from tiny_models import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")

YAML = """\
model: ./base
data: {train: train.jsonl, fixed_eval: valid.jsonl}
lora: {rank: 4, alpha: 8, dropout: 0.1}
predictions: {max_new_tokens: 8}
training:
  epochs: 2
  batch_size: 2
  gradient_accumulation_steps: 2
  learning_rate: 1.0e-2
  max_seq_length: 128
  checkpoint_interval_steps: 5
  eval_interval_steps: 5
  layer_interval_steps: 4
  early_stopping_patience: 0
"""
STEPS = 30


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration, its data and a model: 60 chats, 30 steps of 4."""
    folder = tmp_path_factory.mktemp("project")
    tokenizer = tiny_tokenizer()
    model = tiny_model("qwen3", vocab_size=len(tokenizer), hidden=32, layers=1)
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    rng = random.Random(0)
    for name, count in (("train", 60), ("valid", 12)):
        with (folder / f"{name}.jsonl").open("w") as stream:
            for _ in range(count):
                word = "".join(rng.choices("abcdefgh", k=rng.randint(2, 9)))
                turns = [{"role": "user", "content": f"say {word}"}, {"role": "assistant", "content": word}]
                stream.write(json.dumps({"messages": turns, "pattern": word[0]}) + "\n")
    (folder / "train.yaml").write_text(YAML)
    return folder


def run(project: Path, out: Path, *overrides: str, **more: Any) -> Any:
    return train(load_config(project / "train.yaml", overrides), out=out, log_level="CRITICAL", **more)


def in_child(work: Callable[[], object]) -> int:
    """Run in a forked process, where imports are paid already; its exit status."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture(scope="module")
def reference(project: Path) -> Path:
    """The uninterrupted run."""
    out = project / "reference"
    assert run(project, out).state == "completed"
    return out


def assert_same_run(out: Path, reference: Path) -> None:
    ours, theirs = RunReader(out), RunReader(reference)
    assert ours.columns("train")["step"].tolist() == list(range(1, STEPS + 1))
    for name in ("loss", "tokens", "learning_rate", "grad_norm", "streaming_ce"):
        np.testing.assert_array_equal(
            ours.columns("train")[name], theirs.columns("train")[name], err_msg=name
        )
    assert [(e.step, e.cross_entropy) for e in ours.evals()] == [
        (e.step, e.cross_entropy) for e in theirs.evals()
    ]
    assert [a.step for a in ours.layers()] == [*range(4, STEPS, 4), STEPS]
    assert [a.groups for a in ours.layers()] == [a.groups for a in theirs.layers()]
    last = f"checkpoints/checkpoint-{STEPS}"
    a, b = (load_file(run / last / "adapter_model.safetensors") for run in (out, reference))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    infos = [json.loads((run / last / "fettle.json").read_text()) for run in (out, reference)]
    assert infos[0]["state"] == infos[1]["state"]
    assert infos[0]["score"] == infos[1]["score"]


ALL_STEPS = [pytest.param(step, marks=() if step == 13 else pytest.mark.slow) for step in range(1, STEPS + 1)]


@pytest.mark.parametrize("step", ALL_STEPS)
def test_a_kill_at_any_step_changes_nothing(
    project: Path, reference: Path, tmp_path: Path, step: int
) -> None:
    def kill(done: DoneStep) -> None:
        if done.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(lambda: run(project, tmp_path / "run", on_step=kill)) == -signal.SIGKILL
    assert len(RunReader(tmp_path / "run").columns("train")["step"]) == step
    assert RunReader(tmp_path / "run").state() == "crashed"
    assert in_child(lambda: run(project, tmp_path / "run")) == 0
    assert_same_run(tmp_path / "run", reference)


def test_a_damaged_newest_checkpoint_is_skipped(project: Path, reference: Path, tmp_path: Path) -> None:
    def kill(done: DoneStep) -> None:
        if done.step == 12:
            os.kill(os.getpid(), signal.SIGKILL)

    in_child(lambda: run(project, tmp_path / "run", on_step=kill))
    (tmp_path / "run" / "checkpoints" / "checkpoint-10" / "optimizer.pt").unlink()
    assert in_child(lambda: run(project, tmp_path / "run")) == 0
    assert_same_run(tmp_path / "run", reference)
    log = (tmp_path / "run" / "logs" / "train.log").read_text()
    assert "checkpoint-10 is damaged (optimizer.pt is missing) and is skipped" in log
    assert "going on from checkpoint-5" in log


def test_sigterm_saves_exits_with_75_and_goes_on(project: Path, reference: Path, tmp_path: Path) -> None:
    metrics = tmp_path / "run" / "metrics.jsonl"

    def terminate() -> None:
        while not (metrics.exists() and b'"train"' in metrics.read_bytes()):
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    def command() -> None:
        threading.Thread(target=terminate, daemon=True).start()
        sys.argv = ["fettle", "train", str(project / "train.yaml"), "--out", str(tmp_path / "run")]
        main()

    with pytest.raises(SystemExit) as ended:
        forked(command)
    assert ended.value.code == 75
    assert RunReader(tmp_path / "run").state() == "interrupted"
    assert run(project, tmp_path / "run").state == "completed"
    assert_same_run(tmp_path / "run", reference)


def test_a_finished_run_is_not_started_over(project: Path, reference: Path) -> None:
    with pytest.raises(RunError, match=r"is completed already.*--new"):
        run(project, reference)


def test_another_configuration_is_refused_with_the_difference(project: Path, reference: Path) -> None:
    with pytest.raises(RunError, match=r"another configuration.*training\.seed"):
        run(project, reference, "training.seed=7")


def test_changed_data_is_refused(project: Path, tmp_path: Path) -> None:
    def kill(done: DoneStep) -> None:
        if done.step == 6:
            os.kill(os.getpid(), signal.SIGKILL)

    in_child(lambda: run(project, tmp_path / "run", on_step=kill))
    data = project / "train.jsonl"
    before = data.read_bytes()
    try:
        data.write_bytes(before + before.splitlines(keepends=True)[0])
        with pytest.raises(RunError, match=r"is not the file this run was started with"):
            run(project, tmp_path / "run")
    finally:
        data.write_bytes(before)


def test_a_second_trainer_on_the_run_is_refused(project: Path, tmp_path: Path) -> None:
    def second(done: DoneStep) -> None:
        if done.step == 1:
            with pytest.raises(RunError, match="another process is training this run"):
                run(project, tmp_path / "run", "training.max_steps=2")

    run(project, tmp_path / "run", "training.max_steps=2", on_step=second)


def test_early_stopping_counts_each_eval_once_and_the_best_is_on_disk(project: Path, tmp_path: Path) -> None:
    settings = ("training.early_stopping_patience=2", "training.early_stopping_threshold=100.0")
    outcome = run(project, tmp_path / "run", *settings, "training.eval_interval_steps=3")
    reader = RunReader(tmp_path / "run")
    assert outcome.state == "early_stopped"
    assert outcome.step == 9  # the first eval sets the mark, two do not beat it by 100 nats
    best = min(reader.evals(), key=lambda e: e.cross_entropy or 0.0)
    assert best.step in [c.step for c in reader.checkpoints()]
    assert reader.records("early_stop")[0]["evals_without_improvement"] == 2
    with pytest.raises(RunError, match="is early stopped already"):
        run(project, tmp_path / "run", *settings, "training.eval_interval_steps=3")


def test_an_eval_on_an_epochs_end_happens_once(reference: Path) -> None:
    assert [e.step for e in RunReader(reference).evals()] == [5, 10, 15, 20, 25, 30]


def test_a_number_that_is_none_stops_at_once_and_changes_no_weight(project: Path, tmp_path: Path) -> None:
    from fettle.train import local

    original, calls = local.completion_loss, []

    def poisoned(model: Any, batch: Any) -> Any:
        calls.append(1)
        return original(model, batch) * (float("nan") if len(calls) > 24 else 1.0)

    local.completion_loss = poisoned
    try:
        outcome = run(project, tmp_path / "run")
    finally:
        local.completion_loss = original
    assert (outcome.state, outcome.step) == ("failed", 12)
    assert outcome.checkpoint is not None
    assert outcome.checkpoint.name == "checkpoint-10"
    alert = RunReader(tmp_path / "run").records("alert")[-1]
    assert (alert["category"], alert["level"]) == ("nan_loss", "critical")
    assert "Restart from checkpoint-10 with learning_rate" in alert["action"]
    (row,) = [r for r in RunReader(tmp_path / "run").records("train") if r["step"] == 13]
    assert row["loss_nonfinite"] == "nan"


@pytest.mark.parametrize(
    "lora",
    ["lora.dora=true", *(pytest.param(o, marks=pytest.mark.slow) for o in ("lora.rslora=true", "lora=null"))],
)
def test_measuring_layers_changes_no_bit_of_the_training(project: Path, tmp_path: Path, lora: str) -> None:
    limits = ("training.max_steps=6", "training.max_grad_norm=0.5", lora)
    run(project, tmp_path / "on", *limits, "training.layer_interval_steps=1")
    run(project, tmp_path / "off", *limits, "training.layer_interval_steps=null")
    weights = "model.safetensors" if lora == "lora=null" else "adapter_model.safetensors"
    on, off = (load_file(tmp_path / way / "checkpoints/checkpoint-6" / weights) for way in ("on", "off"))
    assert on.keys() == off.keys()
    assert all(torch.equal(on[key], off[key]) for key in on)
    measured, silent = RunReader(tmp_path / "on"), RunReader(tmp_path / "off")
    np.testing.assert_array_equal(measured.columns("train")["loss"], silent.columns("train")["loss"])
    assert silent.layers() == []
    activities = measured.layers()
    assert [a.step for a in activities] == [1, 2, 3, 4, 5, 6]
    assert all(g.movement > 0 for g in activities[-1].groups)
    for activity, row in zip(activities, measured.records("train"), strict=True):
        assert activity.method == ("full" if lora == "lora=null" else "lora")
        norms = [g.grad_norm or 0.0 for g in activity.groups]
        # Norms and biases are trained too in full fine-tuning, and are in no group.
        close = 1e-1 if activity.method == "full" else 1e-5
        assert np.hypot.reduce(norms) == pytest.approx(row["grad_norm"], rel=close)


def test_full_fine_tuning_that_was_cut_short_still_moves_from_the_base(project: Path, tmp_path: Path) -> None:
    def kill(done: DoneStep) -> None:
        if done.step == 7:
            os.kill(os.getpid(), signal.SIGKILL)

    limits = ("training.max_steps=8", "lora=null")
    run(project, tmp_path / "whole", *limits)
    in_child(lambda: run(project, tmp_path / "cut", *limits, on_step=kill))
    run(project, tmp_path / "cut", *limits)
    whole, cut = (RunReader(tmp_path / name).layers() for name in ("whole", "cut"))
    assert [a.step for a in cut] == [4, 8]
    assert [a.groups for a in cut] == [a.groups for a in whole]


def test_how_a_step_is_split_changes_neither_loss_nor_gradient(project: Path) -> None:
    tokenizer = tiny_tokenizer()
    results = []
    for batch_size, accumulation in ((8, 1), (2, 4), (1, 8), (3, 3)):
        config = load_config(
            project / "train.yaml",
            [
                f"training.batch_size={batch_size}",
                f"training.gradient_accumulation_steps={accumulation}",
                "lora.dropout=0.0",
            ],
        )
        backend = LocalBackend(config, tokenizer)
        from fettle.train.dataset import encode_chats, read_chats

        encoded = encode_chats(read_chats(config), config, tokenizer)
        result = backend.step(encoded.train[:8], 1e-3).result()
        results.append((result.loss, result.grad_norm))
        naive = -score(load_base(project), encoded.train[:8]).logprob.mean()
        assert result.loss == pytest.approx(naive, abs=1e-5)
    for loss, norm in results[1:]:
        assert loss == pytest.approx(results[0][0], abs=1e-5)
        assert norm == pytest.approx(results[0][1], rel=1e-4)


def load_base(project: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(project / "base", dtype=torch.float32)


@pytest.mark.parametrize(
    ("change", "error", "problem"),
    [
        ("model=./nowhere", FettleError, "no folder"),
        ("data.train=none.jsonl", FettleError, "no file"),
        ("data.train=broken.jsonl", DataError, r"broken\.jsonl:1"),
        ("data.train=no_answer.jsonl", DataError, "no assistant message"),
        ("model=./mute", ModelError, "no chat template"),
        ("training.max_seq_length=8", DataError, "no token to learn from"),
        ("lora.target_modules=[nothing]", ModelError, "lora.target_modules"),
    ],
)
def test_bad_input_is_told_before_training(
    project: Path, tmp_path: Path, change: str, error: type[Exception], problem: str
) -> None:
    (project / "broken.jsonl").write_text("{\n")
    (project / "no_answer.jsonl").write_text('{"messages": [{"role": "user", "content": "x"}]}\n')
    mute = tiny_tokenizer()
    load_base(project).save_pretrained(project / "mute")
    mute.save_pretrained(project / "mute")
    (project / "mute" / "chat_template.jinja").unlink(missing_ok=True)
    settings = project / "mute" / "tokenizer_config.json"
    kept = {k: v for k, v in json.loads(settings.read_text()).items() if k != "chat_template"}
    settings.write_text(json.dumps(kept))
    with pytest.raises(error, match=problem):
        run(project, tmp_path / "run", change)


def test_the_command_line_prints_one_line_and_exits_with_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["fettle", "train", "nothing.yaml"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fettle: nothing.yaml: no such file")


def test_only_the_checkpoints_that_the_rules_keep_stay_and_a_resumed_run_may_change_them(
    project: Path, reference: Path, tmp_path: Path
) -> None:
    every = [step for step, _ in list_checkpoints(reference / "checkpoints")]
    verdict = open_run(reference).verdict().checkpoint
    assert verdict is not None

    def killed(done: DoneStep) -> None:
        if done.step == 17:
            raise KeyboardInterrupt

    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(project, out, "checkpoints.keep_latest=1", on_step=killed)
    assert len(list_checkpoints(out / "checkpoints")) <= 2
    assert run(project, out, "checkpoints.keep_latest=2").state == "completed"
    assert load_config(out / "config.yaml").checkpoints.keep_latest == 2
    assert_same_run(out, reference)
    left = [step for step, _ in list_checkpoints(out / "checkpoints")]
    assert set(left) == {*every[-2:], verdict["step"]}
    assert not (out / "checkpoints" / ".trash").exists()
    logged = {c.step: c.path for c in RunReader(out).checkpoints()}
    assert set(logged) >= set(every)
    info = json.loads((out / "checkpoints" / f"checkpoint-{STEPS}" / "fettle.json").read_text())
    assert info["run"] == "run"
    assert set(info["data"]) == {"train", "fixed_eval"}
    assert info["created_at"].endswith("+00:00")


def test_a_checkpoint_that_cannot_be_removed_does_not_stop_training(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"

    def in_the_way(done: DoneStep) -> None:
        if done.step == 1:
            (out / "checkpoints" / ".trash").write_text("x")

    done = run(project, out, "checkpoints.keep_latest=1", "training.max_steps=15", on_step=in_the_way)
    assert done.state == "completed"
    assert "no checkpoint was removed" in (out / "logs" / "train.log").read_text()
    assert len(list_checkpoints(out / "checkpoints")) >= 3
