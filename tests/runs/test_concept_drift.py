"""What `fettle lens drift` left, read back: whole, and of odd values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fettle.api import open_run
from fettle.runs.concept_drift import concept_drift
from page.rich_drift import MOVERS, drift_content, write_drift
from server.runs_on_disk import finished


def test_the_verdict_names_the_movers(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run", steps=6)
    assert open_run(folder.path).verdict().evidence["concepts"] is None
    write_drift(folder.drift_path)
    found = open_run(folder.path).verdict().evidence["concepts"]
    assert (found["lenses"], found["moved"], found["texts"], found["controls"]) == (30, 3, 48, 2)
    assert (found["checkpoint"], found["step"]) == ("checkpoint-2000", 2000)
    assert {row["concept"]: row["shift"] for row in found["top"]} == MOVERS
    assert found["top"][0]["example"] == "A plain text on refusal, number 0."


@pytest.mark.parametrize("content", [None, {}, {"lenses": 3}, {"lenses": [{}]}, {"checkpoints": [7]}])
def test_what_is_no_drift_is_none(content: dict[str, object] | None) -> None:
    assert concept_drift(content) is None


def test_odd_values_were_not_measured(tmp_path: Path) -> None:
    content = drift_content()
    content["lenses"][0] |= {"shifts": [1, "x"], "low": "?", "moved": 1, "examples": [3, "a"], "grade": []}
    found = concept_drift(json.loads(json.dumps(content)))
    assert found is not None
    lens = found.lenses[0]
    assert lens.shifts == [1.0, None, None, None]
    assert (lens.low, lens.moved, lens.examples, lens.grade) == (None, False, ["a"], None)
    folder = finished(tmp_path / "run", steps=6)
    folder.drift_path.parent.mkdir()
    folder.drift_path.write_text("{not json")
    assert open_run(folder.path).drift() is None
