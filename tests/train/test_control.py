"""control.json is obeyed: each request once, within a step, by whatever trains."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from fettle.config import AlertsConfig
from fettle.decide.alerts import stalled_run
from fettle.runs import RunReader
from fettle.runs.control import KEPT, ask_trainer, read_requests
from fettle.runs.summary import summarise_run
from fettle.train.control import ControlFile
from train.asking import Person, ask, obeyed, until
from train.test_run import assert_same_run, project, reference, run

__all__ = ["project", "reference"]
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    told: list[str] = []
    sink = logger.add(lambda message: told.append(message.record["message"]), level="WARNING")
    yield told
    logger.remove(sink)


def actions(file: ControlFile) -> list[str]:
    return [request.action for request in file.take()]


def test_each_request_is_given_once_and_none_that_an_earlier_trainer_was_asked(tmp_path: Path) -> None:
    path = tmp_path / "control.json"
    ask(tmp_path, "stop")
    file = ControlFile(path)
    assert not file.waiting()
    ask(tmp_path, "pause", "checkpoint")
    assert file.waiting()
    assert actions(file) == ["pause", "checkpoint"]
    assert not file.waiting()
    assert actions(file) == []
    ask(tmp_path, "resume")
    assert actions(file) == ["resume"]
    path.unlink()
    assert not file.waiting()
    ask(tmp_path, "pause")
    assert actions(file) == ["pause"]
    assert not ControlFile(path).waiting()


def test_a_damaged_file_is_ignored_with_one_warning(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "control.json"
    file = ControlFile(path)
    for content in (b"{", b"[1]", b'{"requests": [{"id": "a", "action": "rm", "requested_at": 1}]}', b"\xff"):
        warnings.clear()
        path.write_bytes(content)
        for _ in range(3):
            assert not file.waiting()
        [warning] = warnings
        assert warning.startswith(str(path))
    ask(tmp_path, "stop")
    assert actions(file) == ["stop"]
    path.unlink()
    os.mkfifo(path)  # Reading it would never end.
    assert not file.waiting()


def test_the_file_keeps_what_a_long_step_must_find_and_no_more(tmp_path: Path) -> None:
    asked = [ask_trainer(tmp_path / "control.json", "checkpoint").id for _ in range(KEPT + 3)]
    assert [request.id for request in read_requests(tmp_path / "control.json")] == asked[-KEPT:]


def test_a_pause_is_no_stall_and_does_not_make_later_ones_invisible() -> None:
    steps = [{"type": "train", "step": i, "timestamp": 1000.0 + i, "loss": 1.0} for i in range(1, 9)]
    pause = {"type": "control", "step": 8, "action": "pause", "timestamp": 1009.0}
    resume = {"type": "control", "step": 8, "action": "resume", "timestamp": 90_000.0}
    rows = [*steps, pause, resume, {"type": "train", "step": 9, "timestamp": 90_001.0, "loss": 1.0}]
    thresholds = AlertsConfig(stalled_run_seconds=300.0)
    assert stalled_run(rows, 90_290.0, thresholds) is None
    assert stalled_run(rows, 90_310.0, thresholds) is not None


def test_the_loop_saves_pauses_stops_and_goes_on_as_if_nothing_had_been(
    project: Path, reference: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    seen: dict[str, object] = {}

    def beside() -> None:
        seen["list"], seen["status"] = summarise_run(out).state, RunReader(out).status()
        ask(out, "checkpoint")
        until(lambda: (out / "checkpoints" / "checkpoint-4" / "fettle.json").exists())
        seen["still"] = RunReader(out).state()
        time.sleep(2)
        ask(out, "resume")

    person = Person(out, beside)

    def on_step(done: object) -> None:
        step = done.step  # type: ignore[attr-defined]
        if step == 1:
            person.start()
        asked = {2: ("pause", "resume"), 3: ("checkpoint",), 4: ("pause",), 6: ("stop",)}
        ask(out, *asked.get(step, ()))  # type: ignore[arg-type]

    outcome = run(project, out, on_step=on_step)
    person.join()
    assert (outcome.state, outcome.step) == ("interrupted", 6)
    assert outcome.reason == "stopped on request at step 6; the same command goes on from here"
    assert seen["list"] == seen["still"] == "paused"
    assert seen["status"]["state"] == "paused"  # type: ignore[index]
    expected = [("pause", 2), ("resume", 2), ("checkpoint", 3), ("pause", 4), ("checkpoint", 4)]
    expected += [("resume", 4), ("stop", 6)]
    assert obeyed(out) == expected
    reader = RunReader(out)
    assert [c.step for c in reader.checkpoints() if c.path] == [3, 4, 5, 6]
    [paused] = [r["paused_seconds"] for r in reader.records("control") if "paused_seconds" in r]
    assert paused > 2
    assert reader.columns("train")["step_time"][4] < paused
    assert reader.status()["eta_seconds"] is None

    assert run(project, out).state == "completed"  # control.json still asks for a stop.
    assert obeyed(out) == expected
    assert_same_run(out, reference)


def test_a_signal_ends_a_pause_and_a_stop_at_the_end_changes_nothing(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    person = Person(out, lambda: os.kill(os.getpid(), signal.SIGTERM))

    def pause(done: object) -> None:
        if done.step == 7:  # type: ignore[attr-defined]
            ask(out, "pause")
            person.start()

    outcome = run(project, out, "training.max_steps=9", on_step=pause)
    person.join()
    assert (outcome.state, outcome.step) == ("interrupted", 7)
    assert outcome.reason.startswith("SIGTERM")
    assert RunReader(out).state() == "interrupted"

    def stop(done: object) -> None:
        if done.step == 9:  # type: ignore[attr-defined]
            ask(out, "pause", "stop")

    assert run(project, out, "training.max_steps=9", on_step=stop).state == "completed"
    assert json.loads((out / "status.json").read_text())["state"] == "completed"
