"""What the view knows of a run is what its files hold, also while they change."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import orjson
import pytest

from fettle.errors import RunError
from fettle.runs import RunFolder
from fettle.watch.watcher import LOG_LINES, Watcher
from server.runs_on_disk import begin, evaluate, finished, save_checkpoint, train, write_status
from watch.screen import asked, told


def last(path: Path) -> object:
    return told(path)[-1]


def test_every_number_is_that_of_the_file(tmp_path: Path) -> None:
    folder = finished(
        tmp_path / "run", data={"train": {"path": "d/chats.jsonl", "fingerprint": "xxh3:ab", "examples": 7}}
    )
    records = [orjson.loads(row) for row in folder.metrics_path.read_bytes().splitlines()]
    rows = {kind: [r for r in records if r["type"] == kind] for kind in ("train", "fixed_eval")}
    facts = last(folder.path)
    assert facts.losses.train.value == rows["train"][-1]["loss"]
    assert facts.losses.validation.value == rows["fixed_eval"][-1]["cross_entropy"]
    assert [e.exact_match for e in facts.evals] == [r["exact_match"] for r in rows["fixed_eval"]]
    assert facts.train["learning_rate"] == 1e-3
    assert facts.curves.loss.values[:, 2].tolist() == [r["loss"] for r in rows["train"]]
    assert (facts.train_data.name, facts.train_data.fingerprint, facts.train_data.examples) == (
        "chats.jsonl",
        "xxh3:ab",
        7,
    )
    assert facts.eval_data is None
    assert facts.losses.streaming.value is None, "it was never logged"


def test_the_verdict_is_that_of_the_command(tmp_path: Path) -> None:
    from fettle.api import open_run

    folder = finished(tmp_path / "run")
    assert last(folder.path).verdict == open_run(folder.path).verdict().to_json()


def test_small_files_are_told_before_a_long_log_is_read(tmp_path: Path) -> None:
    folder, log = begin(tmp_path / "run", total_steps=200_000)
    log.close()
    row = b'{"type":"train","timestamp":%d,"step":%d,"loss":%.4f}\n'
    folder.metrics_path.write_bytes(
        folder.metrics_path.read_bytes() + b"".join(row % (i, i, 2 + 1 / i) for i in range(1, 200_001))
    )
    write_status(folder, state="running", step=200_000, total_steps=200_000)
    looks = Watcher(folder.path).poll()
    first = next(looks)
    assert first.reading
    assert first.summary.step == 200_000
    assert first.losses.train.value is None
    facts = next(looks)
    assert facts.losses.train.step == 200_000
    assert facts.curves.loss.values.shape[0] == 600
    # Nothing of 200,000 rows is lost in 600 buckets: the first is the highest of all.
    assert facts.curves.loss.values[:, 3].max() == 3.0


def test_a_reading_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    folder, log = begin(tmp_path / "run")
    train(log, range(1, 11))
    watcher = Watcher(folder.path)
    run = [list(watcher.poll()), watcher._run][1]
    judged = watcher._known["verdict"]
    train(log, range(11, 21))
    log.close()
    facts = list(watcher.poll())
    assert facts[-1].losses.train.step == 20
    assert watcher._run is run, "the log was opened again"
    assert watcher._known["verdict"] is judged, "steps alone are no evidence"


def test_a_resume_takes_later_rows_back(tmp_path: Path) -> None:
    folder, log = begin(tmp_path / "run")
    train(log, range(1, 41))
    watcher = Watcher(folder.path)
    before = list(watcher.poll())[-1]
    log.append("resume", {"step": 20})
    train(log, range(21, 23), {22: 9.0})
    log.close()
    after = list(watcher.poll())[-1]
    assert after.segment != before.segment
    assert (after.losses.train.step, after.losses.train.value) == (22, 9.0)
    assert after.curves.loss.values[-1, 0] == 22


def test_a_loss_that_is_no_number_is_told_as_what_it_was(tmp_path: Path) -> None:
    folder, log = begin(tmp_path / "run")
    train(log, range(1, 6), {5: float("nan")})
    log.close()
    facts = last(folder.path)
    assert facts.losses.train.value is None
    assert facts.losses.train.nonfinite == "nan"
    assert facts.curves.loss.values[-1, 7] == 1, "the curve has no mark for it"


def test_a_run_that_is_gone_keeps_what_it_said_last_and_may_come_back(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")
    watcher = Watcher(folder.path)
    before = list(watcher.poll())[-1]
    shutil.move(folder.path, tmp_path / "aside")
    gone = list(watcher.poll())[-1]
    assert gone.gone
    assert "gone" in gone.problems[0]
    assert gone.losses == before.losses
    shutil.move(tmp_path / "aside", folder.path)
    back = list(watcher.poll())[-1]
    assert not back.gone
    assert back.losses == before.losses


def test_a_path_that_never_held_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no such run"):
        told(tmp_path / "nothing")


def test_a_damaged_configuration_takes_the_verdict_alone(tmp_path: Path) -> None:
    folder, log = begin(tmp_path / "run")
    train(log, range(1, 6))
    log.close()
    folder.config_path.write_text("a: [")
    with folder.lock():
        facts = last(folder.path)
    assert facts.losses.train.step == 5
    assert facts.verdict is None
    assert "config.yaml" in facts.verdict_problem


def test_a_log_that_turns_into_rubbish_is_told_as_such(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")
    folder.metrics_path.write_bytes(folder.metrics_path.read_bytes() + b"\xff\x00rubbish\n{]\n")
    facts = last(folder.path)
    assert any("could not be read" in problem for problem in facts.problems)
    assert facts.losses.train.step == 60


def test_other_tools_runs_are_read_and_cannot_be_asked(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join(b'{"step": %d, "train_loss": %f}\n' % (i, 1 / i) for i in range(1, 21)))
    facts = last(path)
    assert facts.losses.train.value == pytest.approx(1 / 20)
    assert "another tool" in facts.refusal
    assert facts.log is None


def test_asking_writes_control_where_a_trainer_lives_and_is_refused_elsewhere(tmp_path: Path) -> None:
    folder, log = begin(tmp_path / "run")
    train(log, range(1, 3))
    log.close()
    watcher = Watcher(folder.path)
    with folder.lock():
        list(watcher.poll())
        watcher.ask("pause")
        assert asked(folder) == "pause"
        assert list(watcher.poll())[-1].asked == "pause"
    folder.control_path.unlink()
    with pytest.raises(RunError, match="crashed"):
        watcher.ask("stop")
    assert not folder.control_path.exists()


def test_a_long_text_log_is_held_to_its_end(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")
    text = "".join(f"line {i}\n" for i in range(3 * LOG_LINES))
    folder.log_path.write_text(text + "".join(f"\rtrain:  {i}%|█▏  | {i}/100" for i in range(50)))
    facts = last(folder.path)
    assert len(facts.log) == LOG_LINES
    assert facts.log[-1].text == "train:  49%|█▏  | 49/100"
    assert facts.log[-2].text == f"line {3 * LOG_LINES - 1}"


def test_layers_and_alerts_are_those_of_the_log(tmp_path: Path) -> None:
    folder, log = begin(tmp_path / "run")
    group = {"modules": 1, "relative": None, "movement": 1.0, "weight_norm": 4.0, "grad_norm": 0.1}
    rows = [
        {"layer": i, "groups": {"mlp": {**group, "movement": 1.0 + i}}} for i in range(7)
    ]  # fmt: skip
    log.append("layers", {"step": 5, "method": "lora", "rows": rows})
    for level, category in (("info", "low_learning_rate"), ("critical", "nan_loss")):
        log.append(
            "alert",
            {"step": 5, "change": "fired", "category": category, "level": level, "message": f"it is {level}",
             "action": "act", "first_step": 4, "resolved": False},
        )  # fmt: skip
    log.close()
    facts = last(folder.path)
    assert [row["layer"] for row in facts.layers["top"]] == [6, 5, 4, 3, 2]
    assert facts.layers["top"][0]["relative"] == 7.0 / 4.0
    assert [alert["severity"] for alert in facts.alerts] == ["critical", "info"]
    assert facts.alerts[0]["recommendation"] == "act"


def test_facts_are_plain_values(tmp_path: Path) -> None:
    folder, log = begin(tmp_path / "run")
    train(log, range(1, 21))
    loss = evaluate(folder, log, 20, 80)
    save_checkpoint(folder, log, 20, loss, 0.2)
    log.close()
    value = orjson.loads(orjson.dumps(last(folder.path).to_json()))
    assert value["evals"][0]["cross_entropy"] == loss
    assert value["losses"]["train"]["value"] == pytest.approx(0.2)
    assert value["losses"]["streaming"]["value"] is None
    assert value["summary"]["model"] == "tiny"


def test_a_callbacks_model_is_named(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", config_yaml="{}\n", metadata={"model": "org/model"})
    write_status(folder, state="running", step=0)
    assert last(folder.path).summary.model == "org/model"


def test_an_empty_run_has_nothing_and_no_zeros(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", config_yaml="{}\n", metadata={})
    facts = last(folder.path)
    assert facts.losses.train.value is None
    assert facts.evals == ()
    assert facts.layers is None
    assert facts.curves.loss.values.shape == (0, np.shape(facts.curves.streaming.values)[1])
