"""`fettle watch` without a terminal."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from fettle.api import open_run
from fettle.cli import cli
from fettle.errors import RunError
from page.rich_run import RichRun, write_rich_run
from server.runs_on_disk import finished

SOURCE = str(Path(__file__).parents[2] / "src")


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """As a script calls it, its output in a pipe."""
    return subprocess.run(
        [sys.executable, "-m", "fettle", "watch", *arguments], capture_output=True, text=True, cwd=cwd,
        env={**os.environ, "PYTHONPATH": SOURCE, "COLUMNS": "100"}, check=False,
    )  # fmt: skip


def printed(*arguments: str) -> Result:
    """The same in this process, which need not load everything again."""
    return CliRunner().invoke(cli, ["watch", *arguments], env={"COLUMNS": "100"})


def test_a_pipe_is_told_where_to_go(tmp_path: Path) -> None:
    done = run(str(finished(tmp_path / "run").path))
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "--once" in done.stderr
    assert "fettle verdict" in done.stderr


def test_once_prints_every_panel(tmp_path: Path) -> None:
    path = write_rich_run(
        tmp_path, RichRun(steps=400, eval_every=100, nan_steps=(), inf_steps=(), spike_steps=())
    )
    done = printed(str(path), "--once")
    assert done.exit_code == 0, done.output
    for told in ("Loss, nats per token", "Fixed eval, step 400", "EM by pattern", "LoRA layers",
                 "Speed and memory", "Alerts", "Log", "✓ completed"):  # fmt: skip
        assert told in done.stdout
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_once_as_json_has_the_same_facts(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")
    done = printed(str(folder.path), "--once", "--json")
    value = orjson.loads(done.stdout)
    reader = open_run(folder.path)
    assert value["verdict"]["action"] == reader.verdict().action
    assert value["evals"][-1]["exact_match"] == reader.evals()[-1].exact_match
    assert value["losses"]["train"]["value"] == reader.records("train")[-1]["loss"]
    assert value["refusal"] == reader.refusal()


def test_without_a_run_the_newest_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = finished(tmp_path / "b"), finished(tmp_path / "deep" / "a")
    for folder, time in ((old, 1_000_000_000), (new, 2_000_000_000)):
        for file in (folder.status_path, folder.metadata_path):
            os.utime(file, (time, time))
    monkeypatch.chdir(tmp_path)
    for arguments in ((), (str(tmp_path),)):
        done = printed(*arguments, "--once", "--json")
        assert orjson.loads(done.stdout)["summary"]["name"] == "a"


def test_an_empty_folder_is_an_error_of_one_line(tmp_path: Path) -> None:
    done = run("--once", cwd=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(r"fettle: there is no run in the current folder.*\n", done.stderr)


@pytest.mark.parametrize("name", ["nothing", "notes.txt"])
def test_what_is_no_run_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("no run\n")
    result = CliRunner().invoke(cli, ["watch", str(tmp_path / name), "--once"])
    assert isinstance(result.exception, RunError)
    assert name in str(result.exception)


def test_json_needs_once() -> None:
    result = CliRunner().invoke(cli, ["watch", "--json"])
    assert result.exit_code == 2
    assert "--json needs --once" in result.output


def test_a_file_of_another_tool_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(
        b"".join(b'{"step": %d, "train_loss": %f, "eval_loss": 1.5}\n' % (i, 1 / i) for i in range(1, 31))
    )
    done = printed(str(path), "--once")
    assert done.exit_code == 0, done.output
    assert "0.033" in done.stdout
    assert "1.500" in done.stdout


def test_names_that_are_no_utf8_can_be_printed(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")
    odd = os.fsencode(tmp_path) + b"/r\xff\x1b[31mun"
    shutil.move(os.fsencode(folder.path), odd)
    done = run(os.fsdecode(odd), "--once")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
