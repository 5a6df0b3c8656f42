"""The report of an evaluation: what it says follows from the files, and it opens from disk alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fettle.cli import main
from fettle.errors import RunError
from fettle.evaluation.results_folder import ResultsFolder
from fettle.report.evaluation import gather, write_evaluation_report

SKILL = {"base": 0.1, "step_10": 0.6, "step_20": 0.8, "step_30": 0.8, "step_40": 0.5}
HOSTILE = "<img src=x onerror=alert(1)>"


def write(root: Path, skill: dict[str, float], samples: int = 300, checker: bool = True) -> Path:
    """Results whose checkpoints get so large a share right; the same samples are hard for all."""
    rng = np.random.default_rng(3)
    ease = rng.random(samples)
    folder = ResultsFolder.create(root, "valid", "{}\n")
    for name, share in skill.items():
        right = ease < share
        rows = [
            {
                "sample_id": f"{i}", "pattern": "math" if i % 3 else HOSTILE, "tokens": 5,
                "entropy_mean": 0.4, "cross_entropy": 2.0 - share + 0.3 * ease[i],
                "exact_match": bool(right[i]), **({"same_correct": float(right[i])} if checker else {}),
                "prompt": [{"role": "user", "content": f"{HOSTILE} question {i}"}], "golden": f"answer {i}",
            }
            for i in range(samples)
        ]  # fmt: skip
        mean = float(right.mean())
        summary: dict[str, Any] = {
            "samples": samples, "unscored": 0, "exact_match": mean, "exact_match_low": mean - 0.05,
            "exact_match_high": mean + 0.05, "cross_entropy": 2.15 - share, "cross_entropy_low": 2.1 - share,
            "cross_entropy_high": 2.2 - share, "expected_calibration_error": 0.08,
            "calibration": [{"tokens": 9.0, "confidence": 0.7, "accuracy": mean}],
            "same_pass_rate": mean, "same_pass_rate_low": mean - 0.05, "same_pass_rate_high": mean + 0.05,
        }  # fmt: skip
        folder.write_result(name, summary, [], rows)
    folder.write_metadata(
        {
            "state": "completed",
            "data": [{"path": "/data/valid.jsonl"}],
            "skipped": [{"name": "step_50", "reason": HOSTILE}],
        }
    )
    return folder.path


def test_it_names_the_result_to_use_and_what_regressed(tmp_path: Path) -> None:
    (section,) = gather(ResultsFolder(write(tmp_path, SKILL)))
    assert section.metrics == ["same", "exact_match", "cross_entropy"]
    assert section.best is not None
    # Both answer the same samples rightly: the earlier one is used.
    assert (section.best.name, section.best.tied) == ("step_20", ["step_20", "step_30"])
    outcome = {name: change.outcome for name, change in section.changes["same"].items()}
    assert outcome == {
        "base": "regressed", "step_10": "regressed", "step_30": "undecided", "step_40": "regressed",
    }  # fmt: skip
    against = {flip["name"]: flip for flip in section.flipped}
    assert set(against) == {"base", "step_40"}
    ease = np.random.default_rng(3).random(300)
    assert against["step_40"]["right"] == [str(i) for i in range(300) if 0.5 <= ease[i] < 0.8]
    assert against["step_40"]["wrong"] == []


def test_cross_entropy_decides_where_nothing_is_right(tmp_path: Path) -> None:
    path = write(tmp_path, {"base": 0.0, "step_10": 0.0}, checker=False)
    for name, value in (("base", 2.0), ("step_10", 1.5)):
        file = path / f"results/{name}/predictions.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps({**row, "cross_entropy": value}) + "\n" for row in rows))
    (section,) = gather(ResultsFolder(path))
    assert section.primary == "cross_entropy"
    assert section.best is not None
    assert section.best.name == "step_10"


def test_the_page_opens_from_disk_and_shows_it(browser: Any, tmp_path: Path) -> None:
    path = write(tmp_path, SKILL)
    report = write_evaluation_report(path)
    assert report == path / "report.html"
    assert (path / "plots/evaluation.png").read_bytes().startswith(b"\x89PNG")
    assert len(report.read_bytes()) < 400_000
    told: list[str] = []
    page = browser.new_page()
    page.on("console", lambda message: told.append(message.text))
    page.on("request", lambda request: told.append(request.url))
    page.goto(f"file://{report}")
    text = page.locator("body").inner_text()
    assert page.locator("figure svg").count() == 3
    assert page.locator("img").count() == 0
    rows = page.locator("table").first.locator("tbody tr").all_inner_texts()
    wide = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.close()
    assert wide
    assert told == [f"file://{report}"]
    assert "Use step_20." in text
    assert "Worse than it: base, step_10, step_40." in text
    assert re.search(r"step_20 against step_40: \d+ became right, 0 became wrong", text)
    assert f"step_50: {HOSTILE}" in text
    ease = np.random.default_rng(3).random(300)
    shares = {name: 100 * float((ease < share).mean()) for name, share in SKILL.items()}
    for row in rows:
        name = row.split()[0]
        assert f"{shares[name]:.1f} % ± 5.0" in row
    assert "▼" in next(row for row in rows if row.startswith("step_40"))


def test_the_command_writes_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, {"step_10": 0.5})
    monkeypatch.setattr("sys.argv", ["fettle", "report", str(path)])
    main()
    first = (path / "report.html").read_text()
    assert "Use step_10." in first
    main()
    assert (path / "report.html").read_text() == first


def test_without_results_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no results"):
        write_evaluation_report(tmp_path)
