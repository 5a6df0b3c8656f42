"""`fettle eval --watch`: checkpoints are evaluated as they appear, and the run folder tells."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import fettle
from checkpoints_on_disk import save_adapter, save_base, write_run
from fettle.api import evaluate_while_training
from fettle.cli import cli
from fettle.errors import RunError
from fettle.evaluation.results import Evaluation
from fettle.runs import EventLog, RunFolder, write_checkpoint
from fettle.runs.control import read_requests
from fettle.runs.folder import hold


class Trainer:
    """A run of which a trainer holds the lock, until it ends."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = RunFolder(write_run(root, steps=(10,)))
        self._held = ExitStack()
        self._held.enter_context(self.folder.lock())
        self._has_ended = False
        self._log = EventLog(self.folder.metrics_path)
        self._log.append("start", {"step": 0})

    def save(self, step: int, spread: float) -> None:
        """A checkpoint whose weights lie so far from those of the base."""
        write_checkpoint(
            self.folder.checkpoints_path, step,
            lambda aside: save_adapter(aside, self.root / "base", seed=step, spread=spread), {"step": step},
        )  # fmt: skip

    def save_spoilt(self, step: int) -> None:
        """A checkpoint that is sure of anything but the answer."""
        model = save_base(self.root / "spoilt", seed=1)
        with torch.no_grad():
            model.get_input_embeddings().weight.mul_(30)

        def save(aside: Path) -> None:
            shutil.copytree(self.root / "spoilt", aside, dirs_exist_ok=True)
            model.save_pretrained(aside)

        write_checkpoint(self.folder.checkpoints_path, step, save, {"step": step})

    def end(self) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        self._log.append("end", {"state": "completed", "step": 30})
        self._log.close()
        self._held.close()


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Trainer]:
    found = Trainer(tmp_path)
    yield found
    found.end()


class Watching(threading.Thread):
    """`evaluate_while_training` beside the test."""

    def __init__(self, run: Path, **options: Any) -> None:
        super().__init__(daemon=True)
        self._run, self._options = run, options
        self.evaluation: Evaluation | None = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        options: dict[str, Any] = {"poll_seconds": 0.02, "report": False, **self._options}
        try:
            self.evaluation = evaluate_while_training(self._run, **options)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error


def until(true: Callable[[], Any], watching: Watching) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert watching.error is None, watching.error
        if true():
            return
        time.sleep(0.02)
    pytest.fail("nothing came")


def rows(folder: RunFolder) -> list[dict[str, Any]]:
    if not folder.evaluations_path.is_file():
        return []
    return [json.loads(line) for line in folder.evaluations_path.read_text().splitlines()]


def test_checkpoints_are_evaluated_as_they_appear_until_the_run_ends(trainer: Trainer) -> None:
    folder = trainer.folder
    watching = Watching(folder.path, report=True)
    until(lambda: len(rows(folder)) == 2, watching)
    trainer.save(20, spread=0.1)
    until(lambda: len(rows(folder)) == 3, watching)
    assert watching.is_alive()
    trainer.end()
    watching.join(60)
    assert [row["step"] for row in rows(folder)] == [0, 10, 20]
    evaluation = watching.evaluation
    assert evaluation is not None
    # The stream says what the files of the evaluation say.
    for row in rows(folder):
        summary = folder.path / "evaluations" / row["folder"] / "results" / row["name"] / "summary.json"
        found = json.loads(summary.read_text())
        assert (row["cross_entropy"], row["exact_match"]) == (found["cross_entropy"], found["exact_match"])
        assert row["data"] == "valid.jsonl"
    assert (evaluation.folder / "report.html").is_file()
    assert [row["step"] for row in fettle.open_run(folder.path).evaluations()] == [0, 10, 20]


def test_a_checkpoint_saved_anew_is_evaluated_anew(trainer: Trainer) -> None:
    folder = trainer.folder
    watching = Watching(folder.path)
    until(lambda: len(rows(folder)) == 2, watching)
    before = rows(folder)[-1]
    trainer.save(10, spread=0.6)
    until(lambda: len(rows(folder)) == 3, watching)
    trainer.end()
    watching.join(60)
    again = rows(folder)[-1]
    assert again["step"] == 10
    assert again["cross_entropy"] != before["cross_entropy"]
    [_, newest] = fettle.open_run(folder.path).evaluations()
    assert newest["cross_entropy"] == again["cross_entropy"]


def test_a_regression_is_an_alert_in_the_verdict_and_stops_the_trainer(trainer: Trainer) -> None:
    folder = trainer.folder
    watching = Watching(folder.path, stop_on_regression=True, config={"max_samples": 20})
    until(lambda: len(rows(folder)) == 2, watching)
    trainer.save(20, spread=0.05)
    until(lambda: len(rows(folder)) == 3, watching)
    assert not folder.control_path.exists()
    trainer.save_spoilt(30)
    until(lambda: folder.control_path.exists(), watching)
    assert [request.action for request in read_requests(folder.control_path)] == ["stop"]
    trainer.end()
    watching.join(60)
    run = fettle.open_run(folder.path)
    [alert] = [a for a in run.alerts() if a["category"] == "evaluation_regression"]
    assert alert["evidence"]["metric"] == "cross-entropy"
    assert alert["last_step"] == 30
    assert any("worse on valid.jsonl" in reason for reason in json.dumps(run.verdict().to_json()).split('"'))


def test_what_a_checker_finds_right_is_judged_as_well(trainer: Trainer, tmp_path: Path) -> None:
    # Right until three checkpoints are judged: nothing but the checker knows that the fourth is worse.
    lines = ("calls = 0", "def check(answer, against):", "    global calls", "    calls += 1")
    (tmp_path / "judge.py").write_text("\n".join([*lines, "    return calls <= 60", ""]))
    folder = trainer.folder
    checkers = {"mine": {"kind": "custom", "function": f"{tmp_path / 'judge.py'}:check"}}
    config = {"max_samples": 20, "checkers": checkers, "generation": {"max_new_tokens": 2}}
    watching = Watching(folder.path, stop_on_regression=True, config=config)
    until(lambda: len(rows(folder)) == 2, watching)
    trainer.save(20, spread=0.01)
    until(lambda: len(rows(folder)) == 3, watching)
    assert not folder.control_path.exists()
    trainer.save(30, spread=0.01)
    until(lambda: folder.control_path.exists(), watching)
    trainer.end()
    watching.join(60)
    last = rows(folder)[-1]
    assert (last["mine_pass_rate"], last["trend"]["mine_pass_rate"]["state"]) == (0.0, "regressing")
    assert last["trend"]["exact_match"]["state"] != "regressing"
    [alert] = [a for a in fettle.open_run(folder.path).alerts() if a["category"] == "evaluation_regression"]
    assert alert["evidence"]["metric"] == "mine pass rate"
    assert alert["evidence"]["samples"] == 20


def test_watching_again_adds_nothing_and_runs_nothing(trainer: Trainer) -> None:
    trainer.end()
    folder = trainer.folder
    first = evaluate_while_training(folder.path, report=False)
    again = evaluate_while_training(folder.path, report=False)
    assert [r.summary["samples_run"] for r in again.results] == [0, 0]
    assert len(rows(folder)) == 4  # another folder of results: rows of its own
    assert first.folder != again.folder
    assert len(fettle.open_run(folder.path).evaluations()) == 2


def test_a_half_written_checkpoint_is_skipped_once_the_run_has_ended(trainer: Trainer) -> None:
    folder = trainer.folder
    trainer.save(20, spread=0.1)
    weights = folder.checkpoints_path / "checkpoint-20" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    watching = Watching(folder.path)
    until(lambda: len(rows(folder)) == 2, watching)
    trainer.end()
    watching.join(60)
    assert watching.evaluation is not None
    assert [skipped.name for skipped in watching.evaluation.skipped] == ["step_20"]


def test_two_watchers_of_one_run_are_refused(trainer: Trainer) -> None:
    path = trainer.folder.evaluations_path.parent
    with hold(path / ".lock", ""), pytest.raises(RunError, match="another process evaluates"):
        evaluate_while_training(trainer.folder.path)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--stop-on-regression"], "needs --watch"),
        (["run", "other", "--watch"], "takes one run"),
        (["run", "--watch", "--out", "x"], "--out does not go with --watch"),
        (["run", "--watch", "--parallel", "2"], "--parallel does not go with --watch"),
        (["run", "--watch", "--checkpoints", "all"], "--checkpoints does not go with --watch"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: list[str], says: str) -> None:
    done = CliRunner().invoke(cli, ["eval", *arguments])
    assert done.exit_code == 2
    assert says in done.output
