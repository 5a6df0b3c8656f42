"""`fettle compare` on results of evaluations and on runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fettle.cli import main
from fettle.evaluation.results_folder import ResultsFolder
from fettle.runs.folder import CALLBACK_FOLDER
from server.runs_on_disk import finished


def write_results(root: Path, better: dict[str, float], samples: int = 400) -> Path:
    """An evaluation whose checkpoints differ from `base` by so many nats a token."""
    rng = np.random.default_rng(0)
    level, skill = rng.gamma(2, 0.4, samples), rng.random(samples)
    folder = ResultsFolder.create(root, "valid", "{}\n")
    for name, change in better.items():
        noise = rng.normal(0, 0.02, samples)
        rows = [
            {
                "sample_id": f"{i}", "pattern": "math", "tokens": 10, "entropy_mean": 0.5,
                "cross_entropy": level[i] - change + noise[i], "exact_match": bool(skill[i] < 0.5 + change),
                "prompt": [{"role": "user", "content": f"question {i}\x1b[31m"}], "golden": f"answer {i}",
            }
            for i in range(samples)
        ]  # fmt: skip
        folder.write_result(name, {}, [], rows)
    return folder.path


def compare(
    *arguments: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["fettle", "compare", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit:
        main()
    printed = capsys.readouterr()
    return int(exit.value.code or 0), printed.out, printed.err


def test_a_planted_regression_is_found_with_its_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_results(tmp_path, {"base": 0.0, "step_20": 0.2, "step_100": 0.1, "step_300": -0.1})
    code, out, _ = compare(path, "--json", "--baseline", "step_100", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 10
    found: Any = json.loads(out)
    outcome = {(c["name"], c["metric"]): c["outcome"] for c in found["changes"]}
    assert [name for name, metric in outcome if metric == "exact_match"] == ["base", "step_20", "step_300"]
    assert outcome["step_300", "cross_entropy"] == outcome["step_300", "exact_match"] == "regressed"
    assert outcome["step_20", "cross_entropy"] == outcome["step_20", "exact_match"] == "improved"
    flip = found["flips"][-1]
    skill = np.random.default_rng(0)
    skill.gamma(2, 0.4, 400)
    wrong = [str(i) for i, s in enumerate(skill.random(400)) if 0.4 <= s < 0.6]
    assert (flip["became_right"], flip["became_wrong"]) == ([], wrong)
    assert flip["texts"][wrong[0]] == [f"question {wrong[0]}\x1b[31m", f"answer {wrong[0]}"]
    _, out, _ = compare(path, "--baseline", "step_100", capsys=capsys, monkeypatch=monkeypatch)
    assert "▼ regressed" in out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 110


def test_equal_results_are_no_regression(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_results(tmp_path, {"base": 0.0, "step_20": 0.0})
    code, out, _ = compare(path, "--ce-margin", "0.01", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 0
    assert "= equivalent" in out
    assert "▼" not in out


@pytest.mark.parametrize("inside", ["", CALLBACK_FOLDER], ids=["of fettle", "of a trainer with the callback"])
def test_runs_are_compared_by_their_fixed_evals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    runs = [tmp_path / "before", tmp_path / "after"]
    for run in runs:
        finished(run / inside)
    code, out, _ = compare(*runs, "--json", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 0
    found: Any = json.loads(out)
    assert found["changes"][0]["samples"] > 0
    assert found["changes"][0]["difference"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "holds no results"),
        (["eval", "--baseline", "step_7"], "There are: base, step_20"),
        (["eval/results/base"], "only base is there to compare"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    write_results(tmp_path, {"base": 0.0, "step_20": 0.0}, samples=5).rename(tmp_path / "eval")
    monkeypatch.chdir(tmp_path)
    code, _, err = compare(*arguments, capsys=capsys, monkeypatch=monkeypatch)
    assert code == 1
    assert message in err
    assert err.count("\n") == 1


def test_what_checkers_found_is_compared_too_and_by_pattern(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_results(tmp_path, {"base": 0.0, "step_20": 0.0})
    file = path / "results/step_20/predictions.jsonl"
    for result in (file, path / "results/base/predictions.jsonl"):
        rows = [json.loads(line) for line in result.read_text().splitlines()]
        for i, row in enumerate(rows):
            row["pattern"] = "math" if i % 2 else "coding"
            worse = result == file and row["pattern"] == "coding" and i % 3 == 0
            row["number_correct"] = None if i == 7 else float(not worse)
        result.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = compare(path, "--json", "--by-pattern", capsys=capsys, monkeypatch=monkeypatch)
    found: Any = json.loads(out)
    assert code == 10
    assert [(c["metric"], c["samples"]) for c in found["changes"]] == [
        ("exact_match", 400), ("cross_entropy", 400), ("number", 399),
    ]  # fmt: skip
    by_pattern = {c["pattern"]: c for c in found["patterns"] if c["metric"] == "number"}
    assert by_pattern["coding"]["outcome"] == "regressed"
    assert by_pattern["coding"]["difference"] == pytest.approx(-67 / 200)
    assert by_pattern["math"]["outcome"] == "undecided"
    assert found["flips"][0]["metric"] == "number"
    assert len(found["flips"][0]["became_wrong"]) == 67
    code, out, _ = compare(path, "--metric", "exact_match", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 0
    assert "number" not in out
    code, _, err = compare(path, "--metric", "bleu", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 1
    assert "All have: exact_match, cross_entropy, number" in err
