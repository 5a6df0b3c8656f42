"""`backend: tinker` as a whole, on a server that trains for real: same run, killed, cut off, resumed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tinker")

from fettle.api import open_run
from fettle.config import load_config
from fettle.errors import ConfigError, ModelError, RunError
from fettle.evaluation.subject import find_subjects
from fettle.runs import RunReader
from fettle.train.estimate import estimate
from fettle.train.job import train
from fettle.train.pipeline import DoneStep
from fettle.train.state import Outcome
from fettle.train.tinker import service
from forked import KilledError, forked
from tinker_server import KEY, TinkerServer, tinker_server
from train.tinker_project import STEPS, write_project

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")


OUTAGE_SECONDS = float(os.environ.get("FETTLE_OUTAGE_SECONDS", "20"))
"""Nothing here shortens the clocks of the SDK; 600 is what people meet, and was tried."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def server(project: Path, tmp_path: Path) -> Iterator[TinkerServer]:
    with tinker_server(project / "base", tmp_path / "service") as running:
        yield running


def run(
    project: Path,
    server: TinkerServer,
    out: Path,
    *overrides: str,
    on_step: Callable[[DoneStep], None] | None = None,
    key: str = KEY,
) -> Outcome:
    """Train in a process of its own: the SDK keeps threads."""
    environment = {"TINKER_BASE_URL": server.url, "TINKER_API_KEY": key}
    config = load_config(project / "train.yaml", overrides)
    return forked(lambda: train(config, out=out, log_level="CRITICAL", on_step=on_step), environment)


@pytest.fixture(scope="module")
def reference(project: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The uninterrupted run, and what the server did for it."""
    folder = tmp_path_factory.mktemp("reference")
    with tinker_server(project / "base", folder / "service") as server:
        assert run(project, server, folder / "run").state == "completed"
        return folder / "run", server.log()


def batches(log: list[dict[str, Any]]) -> list[list[list[int]]]:
    """Examples of each update that counts in the end: a restored state takes back what came after it."""
    steps: list[list[list[int]]] = []
    pending: list[list[int]] = []
    saved: dict[str, int] = {}
    for entry in log:
        if entry["op"] == "forward_backward":
            pending += entry["tokens"]
        elif entry["op"] == "optim_step":
            steps.append(pending)
            pending = []
        elif entry["op"] == "save":
            saved[entry["path"]] = len(steps)
        elif entry["op"] in ("load", "create"):
            del steps[saved[entry["path"]] if entry["op"] == "load" else 0 :]
            pending = []
    return steps


def assert_same_run(out: Path, server: TinkerServer, reference: tuple[Path, list[dict[str, Any]]]) -> None:
    assert batches(server.log()) == batches(reference[1])
    ours, theirs = RunReader(out), RunReader(reference[0])
    assert ours.columns("train")["step"].tolist() == list(range(1, STEPS + 1))
    for name in ("loss", "tokens", "learning_rate", "grad_norm", "streaming_ce"):
        np.testing.assert_array_equal(ours.columns("train")[name], theirs.columns("train")[name], name)
    assert [(e.step, e.cross_entropy, e.exact_match) for e in ours.evals()] == [
        (e.step, e.cross_entropy, e.exact_match) for e in theirs.evals()
    ]
    last = f"checkpoints/checkpoint-{STEPS}/fettle.json"
    infos = [json.loads((folder / last).read_text()) for folder in (out, reference[0])]
    assert infos[0]["state"] == infos[1]["state"]


def test_a_run_equals_that_of_the_local_backend(
    project: Path, reference: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    config = load_config(project / "train.yaml", ["backend=local", "device=cpu"])
    assert forked(lambda: train(config, out=tmp_path / "local", log_level="CRITICAL")).state == "completed"
    ours, local = RunReader(reference[0]), RunReader(tmp_path / "local")
    for name in ("step", "epoch", "tokens", "completion_tokens", "learning_rate"):
        np.testing.assert_array_equal(ours.columns("train")[name], local.columns("train")[name], name)
    # Both compute in float32; one pads batches and runs the head at label positions only, the other
    # does neither. Rounding of 1e-7 grows through sixteen updates of AdamW.
    difference = np.abs(ours.columns("train")["loss"] - local.columns("train")["loss"])
    assert difference[0] < 1e-6
    assert difference.max() < 5e-6
    np.testing.assert_allclose(
        ours.columns("train")["grad_norm"], local.columns("train")["grad_norm"], rtol=1e-4
    )
    for a, b in zip(ours.evals(), local.evals(), strict=True):
        assert (a.step, a.samples, a.tokens, a.exact_match) == (b.step, b.samples, b.tokens, b.exact_match)
        assert a.cross_entropy == pytest.approx(b.cross_entropy, abs=5e-6)
        assert a.expected_calibration_error == pytest.approx(b.expected_calibration_error, abs=1e-3)
        assert a.entropy is None
        assert b.entropy is not None
    ours_said, local_said = ours.predictions(), local.predictions()
    for name in ("step", "prompt_id", "prediction", "ended", "exact_match"):
        assert [row[name] for row in ours_said] == [row[name] for row in local_said]


def test_gradients_are_per_completion_token_of_the_step(
    reference: tuple[Path, list[dict[str, Any]]],
) -> None:
    log = reference[1]
    weights = [entry["weights"] for entry in log if entry["op"] == "forward_backward"]
    assert len(weights) == 2 * STEPS
    np.testing.assert_allclose(
        [a + b for a, b in zip(weights[::2], weights[1::2], strict=True)], 1, atol=1e-6
    )
    updates = [entry for entry in log if entry["op"] == "optim_step"]
    rates = RunReader(reference[0]).columns("train")["learning_rate"]
    np.testing.assert_array_equal([u["learning_rate"] for u in updates], rates)
    assert rates[0] == 0 < rates[1] < rates.max()
    assert {(u["weight_decay"], u["grad_clip_norm"], u["beta2"]) for u in updates} == {(0.01, 1.0, 0.999)}


def test_a_checkpoint_says_where_it_is_and_where_the_data_stands(
    reference: tuple[Path, list[dict[str, Any]]],
) -> None:
    out, log = reference
    info = json.loads((out / "checkpoints" / "checkpoint-12" / "fettle.json").read_text())
    assert info["step"] == 12
    assert info["epoch"] == 1.5
    assert info["data_position"] == {"seed": 42, "epoch": 1, "batch": 4}
    assert info["url"] in {entry["path"] for entry in log if entry["op"] == "save"}
    (checkpoint,) = [c for c in RunReader(out).checkpoints() if c.step == 12]
    assert checkpoint.url == info["url"]
    found, skipped = find_subjects(str(out), "12")
    assert [subject.name for subject in found] == ["base"]
    assert "--download 12" in skipped[0].reason
    assert "not honoured by tinker: lora.alpha" in (out / "config.yaml").read_text()


@pytest.mark.parametrize(
    "step", [pytest.param(s, marks=() if s in (3, 9) else pytest.mark.slow) for s in range(1, STEPS + 1)]
)
def test_a_kill_at_any_step_sends_the_same_batches(
    project: Path, reference: Any, server: TinkerServer, tmp_path: Path, step: int
) -> None:
    def kill(done: DoneStep) -> None:
        if done.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(KilledError):
        run(project, server, tmp_path / "run", on_step=kill)
    assert RunReader(tmp_path / "run").state() == "crashed"
    assert run(project, server, tmp_path / "run").state == "completed"
    assert_same_run(tmp_path / "run", server, reference)


def test_a_service_that_dies_and_comes_back_costs_nothing(
    project: Path, reference: Any, server: TinkerServer, tmp_path: Path
) -> None:
    def restart(done: DoneStep) -> None:
        if done.step == 7:
            server.kill()
            server.start()

    assert run(project, server, tmp_path / "run", on_step=restart).state == "completed"
    assert_same_run(tmp_path / "run", server, reference)


@pytest.mark.slow
@pytest.mark.parametrize("loses_models", [False, True])
def test_a_while_without_the_service_loses_nothing(
    project: Path, reference: Any, server: TinkerServer, tmp_path: Path, loses_models: bool
) -> None:
    def vanish(done: DoneStep) -> None:
        if done.step != 7:
            return
        server.kill() if loses_models else server.freeze()
        if os.fork() == 0:
            time.sleep(OUTAGE_SECONDS)
            server.start() if loses_models else server.thaw()
            os._exit(0)

    began = time.monotonic()
    assert run(project, server, tmp_path / "run", on_step=vanish).state == "completed"
    assert time.monotonic() - began > OUTAGE_SECONDS
    assert_same_run(tmp_path / "run", server, reference)


def test_transient_answers_are_asked_again(
    project: Path, reference: Any, server: TinkerServer, tmp_path: Path
) -> None:
    def fail(done: DoneStep) -> None:
        if done.step == 2:
            server.fault({"path": "/forward_backward", "status": 429, "times": 2})
        if done.step == 5:
            server.fault({"path": "/retrieve_future", "status": 500, "times": 2})
        if done.step == 9:
            server.fault({"path": "/optim_step", "status": 400, "text": "", "times": 1})
        if done.step == 13:
            server.fault({"path": "/retrieve_future", "status": 200, "text": "garbage", "times": 1})

    assert run(project, server, tmp_path / "run", on_step=fail).state == "completed"
    assert_same_run(tmp_path / "run", server, reference)


def test_ctrl_c_saves_the_state_and_goes_on_from_there(
    project: Path, reference: Any, server: TinkerServer, tmp_path: Path
) -> None:
    def interrupt(done: DoneStep) -> None:
        if done.step == 6:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = run(project, server, tmp_path / "run", on_step=interrupt)
    assert stopped.state == "interrupted"
    assert stopped.checkpoint is not None
    assert stopped.checkpoint.name == f"checkpoint-{stopped.step}"
    assert server.log()[-1]["op"] == "save"
    assert run(project, server, tmp_path / "run").state == "completed"
    assert_same_run(tmp_path / "run", server, reference)


def test_a_loss_that_is_no_number_ends_the_run(project: Path, server: TinkerServer, tmp_path: Path) -> None:
    server.fault({"nan_at": 6})
    failed = run(project, server, tmp_path / "run")
    assert failed.state == "failed"
    assert "not a number at step 6; the weights may have been changed" in failed.reason
    assert failed.checkpoint is not None
    assert failed.checkpoint.name == "checkpoint-4"


def test_a_service_that_takes_its_time_is_waited_for_aloud(
    project: Path, server: TinkerServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SILENT_SECONDS", 0.1)
    server.fault({"latency": 0.3})
    run(project, server, tmp_path / "run", "training.max_steps=1")
    lines = (tmp_path / "run" / "logs" / "train.log").read_text().splitlines()
    assert any("WARNING" in line and f"{server.url}: no answer for" in line for line in lines)
    server.fault()
    monkeypatch.setattr(service, "SILENT_SECONDS", 60.0)
    run(project, server, tmp_path / "soon", "training.max_steps=1")
    assert "no answer" not in (tmp_path / "soon" / "logs" / "train.log").read_text()


def test_without_top_log_probabilities_calibration_is_not_measured(
    project: Path, reference: Any, server: TinkerServer, tmp_path: Path
) -> None:
    server.fault({"no_topk": True})
    run(project, server, tmp_path / "run", "training.max_steps=6")
    (ours,) = RunReader(tmp_path / "run").evals()
    theirs = RunReader(reference[0]).evals()[0]
    assert ours.step == theirs.step
    assert ours.expected_calibration_error is None
    assert ours.per_sample is not None
    assert theirs.per_sample is not None
    np.testing.assert_array_equal(ours.per_sample.exact_match, theirs.per_sample.exact_match)
    (record,) = RunReader(tmp_path / "run").records("fixed_eval")
    read, sampled = estimate(load_config(project / "train.yaml", ["training.max_steps=6"])).evals_by_sampling
    assert record["billed_prefill_tokens"] == read
    assert 0 < record["billed_sample_tokens"] <= sampled  # An answer may end early.


@pytest.mark.parametrize("path", ["save_weights_for_sampler", "asample"])
def test_without_a_sampler_exact_match_is_not_measured(
    project: Path, reference: Any, server: TinkerServer, tmp_path: Path, path: str
) -> None:
    server.fault({"path": f"/api/v1/{path}", "status": 405, "times": 1000})
    assert run(project, server, tmp_path / "run").state == "completed"
    ours, theirs = RunReader(tmp_path / "run"), RunReader(reference[0])
    assert batches(server.log()) == batches(reference[1])
    np.testing.assert_array_equal(ours.columns("train")["loss"], theirs.columns("train")["loss"])
    for a, b in zip(ours.evals(), theirs.evals(), strict=True):
        assert (a.step, a.cross_entropy, a.samples) == (b.step, b.cross_entropy, b.samples)
        assert a.exact_match is None
        assert a.expected_calibration_error is None
        assert a.per_sample is not None
        assert a.per_sample.exact_match is None
    assert ours.predictions() == []
    verdict = open_run(tmp_path / "run").verdict()
    assert verdict.checkpoint is not None
    log = (tmp_path / "run" / "logs" / "train.log").read_text()
    assert log.count("the service does not sample") == 1


def test_early_stopping_ends_the_run_and_saves(project: Path, server: TinkerServer, tmp_path: Path) -> None:
    change = ("training.early_stopping_patience=1", "training.early_stopping_threshold=50")
    stopped = run(project, server, tmp_path / "run", *change, "training.eval_interval_steps=3")
    assert stopped.state == "early_stopped"
    assert stopped.step == 6
    assert stopped.checkpoint is not None
    assert stopped.checkpoint.name == "checkpoint-6"


def test_bad_input_is_told_in_one_line_before_anything_is_sent(
    project: Path, server: TinkerServer, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(ConfigError, match="refuses the API key"):
        run(project, server, out, key="tml-wrong")
    with pytest.raises(ConfigError, match="must start with the 'tml-' prefix"):
        run(project, server, out, key="wrong")
    with pytest.raises(ConfigError, match="set TINKER_API_KEY"):
        run(project, server, out, key="")
    with pytest.raises(RunError, match=r"tinker\.base_url .* right"):
        run(project, server, out, "tinker.base_url=http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"does not train 'Qwen/Nothing'. It trains e\.g\."):
        run(project, server, out, "model=Qwen/Nothing")
    assert not out.exists()
    with pytest.raises(RunError, match="rank 128 is above the largest"):
        run(project, server, out, "lora.rank=128")


def test_a_state_that_the_service_lost_is_named(project: Path, server: TinkerServer, tmp_path: Path) -> None:
    def kill(done: DoneStep) -> None:
        if done.step == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(KilledError):
        run(project, server, tmp_path / "run", on_step=kill)
    for state in server.folder.rglob("weights/checkpoint-*"):
        state.unlink()
    with pytest.raises(RunError, match=r"checkpoint-4: the service does not give back .*has expired"):
        run(project, server, tmp_path / "run")


def test_a_checkpoint_comes_home_as_an_adapter_with_the_loss_of_the_service(
    project: Path, server: TinkerServer, tmp_path: Path
) -> None:
    import torch
    from click.testing import CliRunner
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from fettle.cli import cli
    from fettle.runs import verify_checkpoint

    out = tmp_path / "run"
    run(project, server, out, "training.max_steps=12")
    environment = {"TINKER_BASE_URL": server.url, "TINKER_API_KEY": KEY}

    def download(which: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(cli, ["checkpoints", str(out), "--download", which])
        return result.exit_code, result.stdout, repr(result.exception)

    code, told, error = forked(lambda: download("12"), environment)
    assert code == 0, error
    here, service = (float(part.split()[0]) for part in told.replace("cross-entropy ", ", ").split(", ")[1:])
    (measured,) = [e.cross_entropy for e in RunReader(out).evals() if e.step == 12]
    assert here == pytest.approx(service, abs=1e-3)
    assert here == pytest.approx(measured, abs=1e-3)
    checkpoint = out / "checkpoints" / "checkpoint-12"
    assert verify_checkpoint(checkpoint) is None
    assert json.loads((checkpoint / "adapter_config.json").read_text())["target_modules"] is not None
    base = AutoModelForCausalLM.from_pretrained(project / "base", dtype=torch.float32)
    moved = [p for n, p in PeftModel.from_pretrained(base, checkpoint).named_parameters() if "lora_B" in n]
    assert len(moved) == 7
    assert all(p.abs().max() > 0 for p in moved)
    assert "There are: 4, 6, 8, 12" in forked(lambda: download("5"), environment)[2]
    # A wrong export must not pass for the checkpoint that was measured.
    best = open_run(out).verdict().checkpoint
    assert best is not None
    server.fault({"spoil_export": True})
    assert "more than 0.001 apart: it was not kept" in forked(lambda: download("4"), environment)[2]
    assert sorted(p.name for p in (out / "checkpoints" / "checkpoint-4").iterdir()) == [
        "fettle.json",
        "manifest.json",
    ]
    server.fault()
    assert f"checkpoint-{best['step']}" in forked(lambda: download("best"), environment)[1]


def test_pruning_by_hand_removes_what_the_service_keeps(
    project: Path, server: TinkerServer, tmp_path: Path
) -> None:
    from click.testing import CliRunner

    from fettle.cli import cli

    out = tmp_path / "run"
    run(project, server, out, "training.max_steps=12", "training.checkpoint_interval_steps=2")
    here = {c.step: c.url for c in RunReader(out).checkpoints() if c.path is not None}
    assert set(here) == {2, 4, 6, 8, 10, 12}
    rules = [str(out), "--prune", "--keep-every-steps", "6"]

    def prune(*more: str, url: str = server.url) -> tuple[int, str, str]:
        environment = {"TINKER_BASE_URL": url, "TINKER_API_KEY": KEY}

        def invoked() -> tuple[int, str, str]:
            result = CliRunner().invoke(cli, ["checkpoints", *rules, *more])
            return result.exit_code, result.output, repr(result.exception)

        return forked(invoked, environment)

    def kept() -> set[str]:
        return {path.name for path in server.folder.rglob("weights/checkpoint-*")}

    code, told, error = prune()
    assert code == 0, error
    left = {c.step for c in RunReader(out).checkpoints() if c.path is not None}
    assert left == set(here)
    assert len(kept()) == 6
    going = int(told.rsplit(" of them on the service as well", 1)[0].rsplit("\n", 1)[1])
    assert going >= 3
    # Out of reach, nothing may be forgotten here that only these files name.
    code, _, error = prune("--yes", url="http://127.0.0.1:9")
    assert code != 0
    assert "does not answer" in error
    assert {c.step for c in RunReader(out).checkpoints() if c.path is not None} == set(here)
    code, told, error = prune("--yes")
    assert code == 0, error
    assert f"the service deleted {going} of {going}" in told
    left = {c.step for c in RunReader(out).checkpoints() if c.path is not None}
    assert {6, 12} <= left
    assert len(left) == 6 - going
    assert kept() == {f"checkpoint-{step}" for step in left}


def test_a_state_whose_time_is_over_is_named_with_the_day() -> None:
    from fettle.train.tinker.failure import expiry

    info = {"url": "tinker://a/weights/checkpoint-4", "expires_at": "2026-03-01T12:00:00+00:00"}
    before, after = datetime(2026, 3, 1, 11, tzinfo=UTC), datetime(2026, 3, 1, 13, tzinfo=UTC)
    assert expiry(info, before) == ""
    assert expiry(info, after) == ", which expired at 2026-03-01T12:00:00+00:00 (tinker.ttl_days)"
    assert expiry({"expires_at": None}, after) == ""


def test_the_service_forgets_what_the_rules_do_not_keep(
    project: Path, server: TinkerServer, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    rules = ("checkpoints.keep_latest=1", "checkpoints.keep_best=1", "tinker.ttl_days=2")
    run(project, server, out, *rules)
    left = {c.url for c in RunReader(out).checkpoints() if c.path is not None}
    verdict = open_run(out).verdict().checkpoint
    assert verdict is not None
    assert verdict["step"] in {c.step for c in RunReader(out).checkpoints() if c.path is not None}
    saved = [entry for entry in server.log() if entry["op"] == "save"]
    deleted = {entry["path"] for entry in server.log() if entry["op"] == "delete"}
    assert {entry["path"] for entry in saved} - deleted == left
    assert deleted
    assert {entry["ttl_seconds"] for entry in saved} == {2 * 86400}
    assert len(list(server.folder.rglob("weights/checkpoint-*"))) == len(left)
