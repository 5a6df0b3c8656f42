"""`fettle verdict` as a script sees it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fettle.cli import cli


def verdict(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fettle", "verdict", str(path), *options], capture_output=True, text=True
    )


def trainer_state(folder: Path, losses: list[float]) -> Path:
    """What a Hugging Face trainer leaves of a run with these eval losses."""
    path = folder / "trainer_state.json"
    history = [{"step": 100 * (i + 1), "eval_loss": loss} for i, loss in enumerate(losses)]
    steps = 100 * len(losses)
    path.write_text(json.dumps({"global_step": steps, "max_steps": steps, "log_history": history}))
    return path


@pytest.mark.parametrize(
    ("losses", "action", "code"),
    [
        ([2.0, 1.6, 1.3, 1.1, 0.9, 0.7], "continue", 0),
        ([2.0, 1.0, 1.2, 1.5, 1.8, 2.2], "stop", 10),
        ([2.0, 1.0, float("nan")], "investigate", 20),
        ([2.0], "insufficient", 30),
    ],
)
def test_the_exit_code_is_the_action(tmp_path: Path, losses: list[float], action: str, code: int) -> None:
    path = str(trainer_state(tmp_path, losses))
    told = CliRunner().invoke(cli, ["verdict", path, "--json"])
    assert (json.loads(told.stdout)["action"], told.exit_code) == (action, code)
    assert CliRunner().invoke(cli, ["verdict", path]).exit_code == code


def test_a_script_sees_the_exit_code(tmp_path: Path) -> None:
    told = verdict(trainer_state(tmp_path, [2.0]), "--json")
    assert (json.loads(told.stdout)["action"], told.returncode) == ("insufficient", 30)


def test_a_run_that_cannot_be_read_exits_with_1(tmp_path: Path) -> None:
    told = verdict(tmp_path / "none", "--json")
    assert (told.returncode, told.stdout) == (1, "")
    assert str(tmp_path / "none") in told.stderr
