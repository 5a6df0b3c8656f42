"""What a verdict says of the layers of a run on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fettle import open_run
from fettle.cli import cli
from fettle.decide.early_stop import EarlyStopping
from fettle.runs import RunFolder
from fettle.runs.records import GroupMovement, LayerActivity
from fettle.train.recorder import Recorder


def recorded(path: Path, movements: list[list[float]], method: Any = "lora") -> Path:
    """A run whose layers had moved so far at steps 100, 200, ..."""
    folder = RunFolder.create(path / "run", config_yaml="model: base\n", metadata={})
    recorder = Recorder(folder, early_stopping=EarlyStopping(0, 0.01), total_steps=1000)
    recorder.start(step=0)
    for number, sizes in enumerate(movements, start=1):
        groups = [GroupMovement(i, "qkv", 3, size, 10.0, 0.1 * (i + 1)) for i, size in enumerate(sizes)]
        recorder.layers(LayerActivity(100 * number, method, groups, seconds=0.5))
    recorder.step(100 * len(movements), loss_sum=1.0, completion_tokens=1, tokens=2, seconds=100.0)
    recorder.end("completed", step=100 * len(movements), reason="all steps are done")
    return path / "run"


def test_the_last_measurement_is_the_evidence(tmp_path: Path) -> None:
    path = recorded(tmp_path, [[0.0, 0.0, 0.0], [0.1, 0.052, 0.2]])
    evidence = open_run(path).verdict().to_json()["evidence"]["layers"]
    assert (evidence["step"], evidence["since_step"], evidence["method"]) == (200, 0, "lora")
    assert [row["layer"] for row in evidence["top"]] == [2, 0, 1]
    assert evidence["top"][2]["relative"] == pytest.approx(0.0052)
    assert evidence["dead"] == []
    assert evidence["gradient_spread"] == pytest.approx(3.0)
    assert not any("moved" in line for line in open_run(path).verdict().warnings)


@pytest.mark.parametrize(("method", "words"), [("lora", "LoRA layers"), ("full", "layers in training")])
def test_layers_that_did_not_move_are_named_in_one_line(tmp_path: Path, method: Any, words: str) -> None:
    path = recorded(tmp_path, [[0.1, 0.1, 0.1], [0.0, 0.1, 0.0]], method)
    (line,) = [line for line in open_run(path).verdict().warnings if "moved" in line]
    assert line.startswith(f"2 of 3 {words} had not moved by step 200 (0, 2): ")
    shown = CliRunner().invoke(cli, ["verdict", str(path)]).output
    assert f"2 of 3 {words} had not moved" in " ".join(shown.split())
    assert "1 moved most (ΔW/W 1 %)" in shown


def test_a_run_without_measurements_says_nothing(tmp_path: Path) -> None:
    path = recorded(tmp_path, [])
    found = open_run(path).verdict()
    assert found.evidence["layers"] is None
    assert not any("moved" in line for line in found.warnings)


def test_the_status_and_the_share_of_monitoring_count_it(tmp_path: Path) -> None:
    path = recorded(tmp_path, [[0.1, 0.0], [0.1, 0.0]])
    run = open_run(path)
    status = json.loads((path / "status.json").read_text())
    assert status["layer_activity_summary"]["dead"] == [1]
    assert run.records("train")[0]["monitor_time"] == pytest.approx(1.0)
    assert status["monitor_share"] == pytest.approx(0.01, rel=0.1)
