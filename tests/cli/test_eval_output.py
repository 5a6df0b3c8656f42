"""The table that `fettle eval` ends with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from fettle.cli.eval_output import print_evaluation
from fettle.config.endpoint import EndpointConfig
from fettle.evaluation.results import Evaluation, SubjectResult
from fettle.evaluation.subject import EndpointSubject

LONG = "endpoint-some-very-long-model-name-instruct-2507-fp8-dynamic"


def test_a_long_name_takes_lines_and_cuts_no_number(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"exact_match": 0.512, "cross_entropy": 1.234, "teacher_pass_rate": 0.75}
    intervals = {f"{key}_{end}": value for key, value in values.items() for end in ("low", "high")}
    counts = {"samples": 1000, "samples_run": 998}
    server = EndpointConfig(base_url="http://localhost:1/v1", model="m")
    results = [
        SubjectResult(
            EndpointSubject(LONG, server, None),
            Path(data),
            {**values, **intervals, **counts},
            cast("Any", None),
        )
        for data in ("held-out-of-everything.jsonl", "valid.jsonl")
    ]
    monkeypatch.setenv("COLUMNS", "80")
    print_evaluation(Evaluation(Path("eval_runs/run"), results, []), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    table = lines[1:-2]
    numbers = [line.split()[2:] for line in table if "±" in line]
    assert numbers == ["75.0 % ± 0.0 51.2 % ± 0.0 1.234 ± 0.000 1000 998".split()] * 2
    width = next(i for i, c in enumerate(table[0]) if c == " ")
    assert "".join(line[:width].strip() for line in table) == LONG * 2
