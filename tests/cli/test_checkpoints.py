"""`fettle checkpoints`: pins, and removing what no rule keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fettle.cli import cli
from fettle.errors import ConfigError, FettleError, RunError
from fettle.runs import EventLog, RunFolder, list_checkpoints, write_checkpoint

LOSSES = {100: 1.0, 200: 0.4, 300: 0.6, 400: 0.8}


def fettle(*arguments: object) -> Result:
    """Run a command in this process; an error that a user can fix is raised as it stands."""
    result = CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=True)
    if isinstance(result.exception, FettleError):
        raise result.exception
    return result


def as_json(*arguments: object) -> dict[str, Any]:
    return json.loads(fettle(*arguments, "--json").stdout)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with four checkpoints, of which 200 is the best."""
    folder = RunFolder.create(tmp_path / "run", config_yaml="model: x\n", metadata={})
    log = EventLog(folder.metrics_path)
    for step, loss in LOSSES.items():
        log.append("fixed_eval", {"step": step, "cross_entropy": loss})
        log.append("checkpoint", {"step": step, "path": f"checkpoints/checkpoint-{step}"})
        write_checkpoint(
            folder.checkpoints_path,
            step,
            lambda path: (path / "adapter.safetensors").write_bytes(b"x" * 1000) and None,
            {"step": step, "run": "run"},
        )
    log.close()
    return folder.path


def on_disk(run: Path) -> list[int]:
    return [step for step, _ in list_checkpoints(run / "checkpoints")]


def test_pruning_is_a_dry_run_until_yes(run: Path) -> None:
    before = sorted(run.rglob("*"))
    shown = fettle("checkpoints", run, "--prune", "--keep-best", 1)
    assert shown.exit_code == 0
    assert "2 of 4 would go" in shown.stdout
    assert "Nothing was removed: add --yes" in shown.stdout
    assert sorted(run.rglob("*")) == before
    told = as_json("checkpoints", run, "--prune", "--keep-best", 1)
    assert told["dry_run"] is True
    assert [(row["step"], row["keep"]) for row in told["checkpoints"]] == [
        (100, False),
        (200, True),
        (300, False),
        (400, True),
    ]
    assert sorted(run.rglob("*")) == before

    done = fettle("checkpoints", run, "--prune", "--keep-best", 1, "--yes")
    assert "removed 2 of 4 checkpoints" in done.stdout
    assert on_disk(run) == [200, 400]
    ranked = as_json("checkpoints", run)
    assert ranked["chosen_step"] == 200
    assert {row["step"]: row["path"] is None for row in ranked["checkpoints"]} == {
        100: True,
        200: False,
        300: True,
        400: False,
    }


def test_the_rules_of_the_run_hold_where_none_are_given(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no rule.*--keep-best K"):
        fettle("checkpoints", run, "--prune")
    (run / "config.yaml").write_text("model: x\ncheckpoints: {keep_latest: 2}\n")
    fettle("checkpoints", run, "--prune", "--yes")
    assert on_disk(run) == [200, 300, 400]
    (run / "config.yaml").write_text("model: x\ncheckpoints: {keep_latest: 0}\n")
    with pytest.raises(ConfigError, match=r"config\.yaml: checkpoints\.keep_latest"):
        fettle("checkpoints", run, "--prune")


def test_a_pinned_checkpoint_stays_until_it_is_unpinned(run: Path) -> None:
    pinned = fettle("checkpoints", run, "--pin", 100)
    assert "pinned" in pinned.stdout
    fettle("checkpoints", run, "--prune", "--yes", "--keep-latest", 1)
    assert on_disk(run) == [100, 200, 400]
    fettle("checkpoints", run, "--prune", "--yes", "--keep-latest", 1, "--unpin", 100)
    assert on_disk(run) == [200, 400]
    with pytest.raises(RunError, match=r"no checkpoint of step 100 on this disk\. There are: 200, 400"):
        fettle("checkpoints", run, "--pin", 200, "--pin", 100)
    assert not (run / "checkpoints" / "checkpoint-200" / "PINNED").exists()


def test_what_does_not_say_where_it_comes_from_stays(run: Path) -> None:
    saved = run / "checkpoints"
    (saved / "checkpoint-100" / "fettle.json").unlink()
    (saved / "checkpoint-300" / "fettle.json").write_text('{"step": 7, "run": "run"}')
    rows = as_json("checkpoints", run, "--prune", "--yes", "--keep-latest", 1)["checkpoints"]
    assert on_disk(run) == [100, 200, 300, 400]
    assert rows[0]["reasons"] == ["no fettle.json says where it comes from"]


def test_where_the_newest_is_damaged_the_one_before_it_stays(run: Path) -> None:
    (run / "checkpoints" / "checkpoint-400" / "adapter.safetensors").write_bytes(b"cut")
    fettle("checkpoints", run, "--prune", "--yes", "--keep-latest", 1)
    assert on_disk(run) == [200, 300, 400]


def test_what_a_killed_removal_left_in_the_trash_is_shown_and_emptied(run: Path) -> None:
    trash = run / "checkpoints" / ".trash"
    trash.mkdir()
    (run / "checkpoints" / "checkpoint-100").rename(trash / "checkpoint-100")
    assert "1 in the trash" in fettle("checkpoints", run, "--prune", "--keep-latest", 3).stdout
    fettle("checkpoints", run, "--prune", "--keep-latest", 3, "--yes")
    assert not trash.exists()
    assert on_disk(run) == [200, 300, 400]


def test_a_run_of_another_tool_is_never_pruned(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(b"x")
        history = [{"step": s, "eval_loss": s / 10} for s in range(10, step + 1, 10)]
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": history}))
    rows = as_json("checkpoints", tmp_path, "--prune", "--yes", "--keep-best", 1)["checkpoints"]
    assert all("no fettle.json says where it comes from" in row["reasons"] for row in rows)
    assert len(list(tmp_path.glob("checkpoint-*"))) == 3


def test_rules_without_prune_are_a_mistake(run: Path) -> None:
    assert fettle("checkpoints", run, "--yes").exit_code == 2
    assert fettle("checkpoints", run, "--keep-best", 1).exit_code == 2
    assert on_disk(run) == [100, 200, 300, 400]


@pytest.mark.parametrize("command", ["verdict", "checkpoints", "plot"])
def test_every_command_takes_another_tools_log_and_says_what_it_left_out(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "log" / "metrics.jsonl"
    log.parent.mkdir()
    log.write_text('{"n": 1, "nll": 2.0}\n{"n": 2, "nll": 1.0}\n{"n": 2, "val": 1.5}\n{"n"')
    names = tmp_path / "names.yaml"
    names.write_text("train: {step: n, loss: nll}\nfixed_eval: {step: n, cross_entropy: val}\n")
    with pytest.raises(RunError, match=r"there are: n, nll, val"):
        fettle(command, log.parent)
    shown = fettle(command, log.parent, "--columns", names)
    assert "last line is not whole" in " ".join(shown.output.split())
    assert (tmp_path / "training_curves.png").is_file() == (command == "plot")


def test_curves_of_fettles_run_inside_an_output_folder_go_into_that_run(run: Path, tmp_path: Path) -> None:
    run.rename(tmp_path / "fettle")
    told = as_json("plot", tmp_path)
    assert Path(told["path"]) == tmp_path / "fettle" / "plots" / "training_curves.png"
