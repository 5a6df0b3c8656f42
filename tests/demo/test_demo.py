"""The demo, small and whole."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fettle.cli import cli
from fettle.demo import run_demo
from fettle.demo.data import COUNTS, fine_tuning, first_skill
from fettle.demo.run import FINISHED
from fettle.runs import RunReader


def test_the_data_is_seeded_and_nothing_leaks() -> None:
    train, held_out = fine_tuning(COUNTS)
    assert (train, held_out) == fine_tuning(COUNTS)
    prompts = [chat["messages"][0]["content"] for chat in [*train, *held_out]]
    assert len(prompts) == len(set(prompts)) == sum(a + b for a, b in COUNTS.values())
    assert {chat["pattern"] for chat in first_skill(6)} == {"copy", "first", "last"}
    for chat in held_out:
        question, answer = (message["content"] for message in chat["messages"])
        if chat["pattern"] == "reverse":
            assert question.removeprefix("Reverse: ").split() == answer.split()[::-1]


def test_a_small_demo_runs_to_its_end_and_is_kept(tmp_path: Path) -> None:
    said: list[str] = []
    run = run_demo(tmp_path, say=said.append, base_steps=6, epochs=1, interval=10)
    reader = RunReader(run)
    assert reader.state() in FINISHED
    assert [e.step for e in reader.evals()] == [10, 20]
    assert len(said) == 3
    before = (run / "metrics.jsonl").read_bytes()
    assert run_demo(tmp_path, say=said.append) == run
    assert (run / "metrics.jsonl").read_bytes() == before
    assert "already" in said[-1]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_demo_says_stop_names_an_earlier_checkpoint_and_the_weak_kind(tmp_path: Path) -> None:
    shown = CliRunner().invoke(cli, ["demo", "--out", str(tmp_path), "--json"], catch_exceptions=False)
    verdict = json.loads(shown.stdout)
    last = RunReader(tmp_path / "runs" / "demo").evals()[-1].step
    assert verdict["action"] == "stop"
    assert 0 < verdict["checkpoint"]["step"] < last
    assert Path(verdict["checkpoint"]["path"]).is_dir()
    assert verdict["evidence"]["weakest_pattern"] == "capitals"
    assert "capitals" in verdict["recommendation"]
    kinds = {row["pattern"]: row for row in verdict["evidence"]["patterns"]}
    assert kinds["reverse"]["exact_match"] > 0.5
    assert "too few" in kinds["double"]["text"]
