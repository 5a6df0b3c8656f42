"""Alerts of real runs: logged, printed, sent, replayed, judged."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fettle import open_run
from fettle.cli import cli
from fettle.config import AlertsConfig, load_config
from fettle.decide.alerts import AlertEngine, replayed
from fettle.decide.early_stop import EarlyStopping
from fettle.errors import ConfigError
from fettle.runs import LogFollower, RunFolder
from fettle.runs.superseded import standing_records
from fettle.train.job import train
from fettle.train.pipeline import DoneStep
from fettle.train.recorder import Recorder
from tiny_models import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")

# Thresholds at which an ordinary run of 20 steps has much to tell.
YAML = """\
model: ./base
data: {train: train.jsonl, fixed_eval: valid.jsonl}
lora: {rank: 4, alpha: 8, dropout: 0.1}
predictions: {max_new_tokens: 8}
training:
  max_steps: 20
  batch_size: 4
  learning_rate: 1.0e-2
  max_seq_length: 128
  checkpoint_interval_steps: 4
  eval_interval_steps: 6
  early_stopping_patience: 0
alerts:
  exploding_gradients: 0.6
  loss_spike: 1.05
  loss_spike_steps: 3
  loss_variance: 0.001
  loss_variance_steps: 4
  plateau: 0.2
  plateau_steps: 4
  high_learning_rate: 0.009
  poor_calibration: 0.01
  evaluation_overhead: 0.001
  overhead_after_seconds: 0.0
  cooldown_steps: 1
  disk_nearly_full: 1.0e+18
"""


def write_chats(path: Path, words: list[str]) -> None:
    with path.open("w") as stream:
        for word in words:
            turns = [{"role": "user", "content": f"say {word}"}, {"role": "assistant", "content": word}]
            stream.write(json.dumps({"messages": turns}) + "\n")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    tokenizer = tiny_tokenizer()
    tiny_model("qwen3", vocab_size=len(tokenizer), hidden=32, layers=1).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefgh", k=rng.randint(2, 9))) for _ in range(60)]
    write_chats(folder / "train.jsonl", words)
    write_chats(folder / "valid.jsonl", [*words[:2], *(word[::-1] + "x" for word in words[:10])])
    (folder / "train.yaml").write_text(YAML)
    return folder


def run(project: Path, out: Path, *overrides: str, **more: Any) -> Any:
    return train(load_config(project / "train.yaml", overrides), out=out, log_level="CRITICAL", **more)


@pytest.fixture(scope="module")
def finished(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert run(project, out).state == "completed"
    return out


def told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The alert records of a log, as changes."""
    return [
        {key: value for key, value in row.items() if key not in ("type", "timestamp")}
        for row in rows
        if row["type"] == "alert"
    ]


def as_logged(value: Any) -> Any:
    return json.loads(json.dumps(value))


def test_alerts_of_a_real_run_are_those_of_its_replay(finished: Path) -> None:
    rows = LogFollower(finished / "metrics.jsonl").poll()
    thresholds = load_config(finished / "config.yaml").alerts
    _, changes = replayed(rows, thresholds)
    live = told(rows)
    assert as_logged([change.fields() for change in changes]) == live
    assert {row["change"] for row in live} >= {"fired", "resolved"}
    assert {row["category"] for row in live} >= {
        "high_learning_rate", "exploding_gradients", "loss_variance", "plateau", "leakage",
        "poor_calibration", "checkpoint_without_evaluation", "evaluation_overhead", "disk_nearly_full",
    }  # fmt: skip


def test_alerts_of_a_killed_and_resumed_run_are_those_of_its_replay(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"

    def kill(done: DoneStep) -> None:
        if done.step == 15:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            run(project, out, on_step=kill)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert run(project, out).state == "completed"
    rows = LogFollower(out / "metrics.jsonl").poll()
    standing = standing_records(rows)
    assert any(row["type"] == "resume" for row in rows)
    assert len(standing) < len(rows)
    thresholds = load_config(out / "config.yaml").alerts
    _, changes = replayed(rows, thresholds)
    assert as_logged([change.fields() for change in changes]) == told(standing)
    # The tests of an eval know the evals from before the kill.
    by_step = {row["step"]: row for row in standing if row["type"] == "fixed_eval"}
    assert by_step[18]["cross_entropy_trend"]["evals"] == len([step for step in by_step if step <= 18]) > 3


def test_alerts_of_a_real_run_are_printed_and_in_its_status(finished: Path) -> None:
    text = (finished / "logs" / "train.log").read_text()
    assert "WARNING" in text
    assert "is above 9e-03" in text
    assert "2 of 12 held-out examples stand in the training data" in text
    assert "resolved at step" in text
    status = json.loads((finished / "status.json").read_text())
    active = {alert["category"] for alert in status["active_alerts"]}
    assert active == {alert["category"] for alert in open_run(finished).alerts()}
    assert "leakage" in active


def test_alerts_are_in_the_verdict(finished: Path) -> None:
    result = open_run(finished).verdict()
    alerts = {alert["category"]: alert for alert in result.evidence["alerts"]}
    assert alerts["leakage"]["level"] == "warning"
    done = CliRunner().invoke(cli, ["verdict", str(finished)], catch_exceptions=False)
    shown = " ".join(done.output.split())
    assert "Alerts" in shown
    assert "warning: 2 of 12 held-out examples" in shown


def test_alerts_that_are_critical_and_open_are_investigated(project: Path, tmp_path: Path) -> None:
    run(project, tmp_path / "run", "alerts.exploding_gradients=0.000001")
    result = open_run(tmp_path / "run").verdict()
    assert result.action == "investigate"
    assert "Gradient norm" in result.reasons[0]
    assert "Stop." in result.recommendation


def test_alerts_of_a_run_go_to_a_command(project: Path, tmp_path: Path) -> None:
    program = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + chr(10))"
    command = json.dumps([sys.executable, "-c", program, str(tmp_path / "told.jsonl")])
    run(
        project,
        tmp_path / "run",
        f"notify.command={command}",
        "notify.timeout_seconds=60",
        "training.max_steps=4",
    )
    lines = [json.loads(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    rows = LogFollower(tmp_path / "run" / "metrics.jsonl").poll()
    assert {line["run"] for line in lines} == {"run"}
    expected = [row for row in told(rows) if row["level"] != "info"]
    assert [{k: v for k, v in line.items() if k != "run"} for line in lines] == expected


def test_alerts_without_their_address_are_refused_before_a_folder_is_made(
    project: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="NO_SUCH_WEBHOOK is not set"):
        run(project, tmp_path / "run", "notify.webhook=$NO_SUCH_WEBHOOK")
    assert not (tmp_path / "run").exists()


def recorder_of(path: Path, **more: Any) -> Recorder:
    folder = RunFolder.create(path, config_yaml="{}\n", metadata={})
    return Recorder(folder, early_stopping=EarlyStopping(0, 0.0), **more)


def test_alerts_that_fail_end_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(AlertEngine, "feed", broken)
    recorder = recorder_of(tmp_path / "run")
    recorder.start()
    for step in (1, 2):
        recorder.step(step, loss_sum=float("nan"), completion_tokens=10, tokens=20, grad_norm=1e9)
    recorder.end("completed", step=2, reason="")
    assert [row["step"] for row in open_run(tmp_path / "run").records("train")] == [1, 2]


def test_alerts_of_a_run_that_hangs_are_seen_by_its_reader(tmp_path: Path) -> None:
    recorder = recorder_of(tmp_path / "run", alerts=AlertsConfig())
    recorder.folder.config_path.write_text("alerts: {stalled_run_seconds: 100.0}\n")
    recorder.start()
    for step in (1, 2, 3):
        recorder.step(step, loss_sum=10.0, completion_tokens=10, tokens=20)
    with recorder.folder.lock():
        reader = open_run(tmp_path / "run")
        assert reader.alerts() == []
        [alert] = reader.alerts(now=time.time() + 101)
        assert (alert["category"], alert["last_step"]) == ("stalled_run", 3)
        assert reader.alerts(now=time.time() + 99) == []
    # Nobody trains any more: the run crashed, which is another matter.
    assert open_run(tmp_path / "run").alerts(now=time.time() + 101) == []
    assert reader.records("alert") == []
