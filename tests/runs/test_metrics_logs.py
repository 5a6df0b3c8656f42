"""Logs of JSON lines by other tools: tinker-cookbook, LLaMA-Factory, and any other by its column names."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fettle.api import open_run
from fettle.cli import cli
from fettle.errors import RunError
from fettle.runs import RunReader


def write(path: Path, *rows: dict[str, Any], end: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + end)
    return path


# -- tinker-cookbook ------------------------------------------------------------


def cookbook_row(step: int, **more: float) -> dict[str, Any]:
    return {
        "epoch": 0,
        "progress": step / 40,
        "learning_rate": 1e-4,
        "num_tokens": 900,
        "num_loss_tokens": 300,
        "train_mean_nll": 2.0 - step / 40,
        "time/total": 1.5,
        "step": step,
        **more,
    }


def cookbook_checkpoint(name: str, **state: Any) -> dict[str, Any]:
    base = f"tinker://run-1/weights/{name}"
    return {"name": name, **state, "state_path": base, "sampler_path": f"{base}-sampler"}


def cookbook(folder: Path) -> Path:
    rows = [cookbook_row(s, **({"test/nll": 1.0 + s / 100} if s % 10 == 0 else {})) for s in range(30)]
    write(folder / "metrics.jsonl", *rows)
    write(
        folder / "checkpoints.jsonl",
        cookbook_checkpoint("000010", epoch=0, batch=10),
        cookbook_checkpoint("000020", epoch=1, batch=5),
    )
    return folder


def test_a_tinker_cookbook_folder_names_the_checkpoint_that_the_service_keeps(tmp_path: Path) -> None:
    run = open_run(cookbook(tmp_path))
    assert (run.kind, run.state()) == ("tinker_cookbook", "unknown")
    columns = run.columns("train")
    assert columns["loss"][:2].tolist() == [2.0, 1.975]
    assert (columns["completion_tokens"][0], columns["tokens"][0], columns["step_time"][0]) == (300, 900, 1.5)
    assert [(e.step, e.cross_entropy) for e in run.evals()] == [(0, 1.0), (10, 1.1), (20, 1.2)]
    assert [(c.step, c.path, c.cross_entropy) for c in run.checkpoints()] == [
        (10, None, 1.1),
        (20, None, 1.2),
    ]
    assert run.verdict().checkpoint == {"step": 10, "path": "tinker://run-1/weights/000010-sampler"}


def test_the_final_checkpoint_of_tinker_cookbook_comes_after_the_last_step(tmp_path: Path) -> None:
    reader = RunReader(cookbook(tmp_path))
    with (tmp_path / "checkpoints.jsonl").open("a") as stream:
        stream.write(json.dumps(cookbook_checkpoint("final", epoch=2, batch=15)) + "\n")
    reader.refresh()
    assert reader.state() == "completed"
    assert [c.step for c in reader.checkpoints()] == [10, 20, 30]


def test_other_evaluators_of_tinker_cookbook_are_kept(tmp_path: Path) -> None:
    write(tmp_path / "metrics.jsonl", cookbook_row(0, **{"test/accuracy": 0.5}), cookbook_row(1))
    evaluated = RunReader(tmp_path).evals()
    assert [(e.step, e.cross_entropy, e.extra) for e in evaluated] == [(0, None, {"test/accuracy": 0.5})]


def test_torn_and_odd_checkpoint_lines_are_said(tmp_path: Path) -> None:
    cookbook(tmp_path)
    with (tmp_path / "checkpoints.jsonl").open("a") as stream:
        stream.write('[1]\n{"name": "last"}\n{"name": "0000')
    reader = RunReader(tmp_path)
    assert [c.step for c in reader.checkpoints()] == [10, 20]
    assert len(reader.problems) == 2


# -- LLaMA-Factory -----------------------------------------------------------------


def factory_row(step: int, **numbers: float) -> dict[str, Any]:
    progress = {"total_steps": 20, "percentage": step * 5.0, "elapsed_time": "0:00:10"}
    return {"current_steps": step, **progress, **numbers}


def factory(folder: Path, *steps: int) -> Path:
    rows: list[dict[str, Any]] = []
    for step in steps:
        rows.append(factory_row(step, loss=2.0 / step, lr=1e-4, epoch=step / 10, throughput=500.0))
        if step % 10 == 0:
            rows.append(factory_row(step, eval_loss=1.0 + step / 100, epoch=step / 10))
    return write(folder / "trainer_log.jsonl", *rows)


def test_a_llama_factory_log_with_the_checkpoints_beside_it(tmp_path: Path) -> None:
    factory(tmp_path, 5, 10, 15)
    for step in (10, 20):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "adapter_model.safetensors").write_bytes(b"x")
    # The newest checkpoint's state is older than the log.
    (tmp_path / "checkpoint-10" / "trainer_state.json").write_text('{"log_history": [], "global_step": 10}')
    run = open_run(tmp_path)
    assert (run.kind, run.state()) == ("llama_factory", "unknown")
    columns = run.columns("train")
    assert columns["step"].tolist() == [5, 10, 15]
    assert columns["loss"].tolist() == pytest.approx([0.4, 0.2, 2 / 15])
    assert columns["learning_rate"][0] == 1e-4
    assert columns["tokens_per_sec"][0] == 500.0
    assert [(e.step, e.epoch, e.cross_entropy) for e in run.evals()] == [(10, 1.0, 1.1)]
    assert [(c.step, c.cross_entropy) for c in run.checkpoints()] == [(10, 1.1), (20, None)]
    assert run.verdict().checkpoint == {"step": 10, "path": str(tmp_path / "checkpoint-10")}


def test_a_llama_factory_run_is_complete_at_its_last_step_until_it_goes_on(tmp_path: Path) -> None:
    path = factory(tmp_path, 10, 20)
    with path.open("a") as stream:
        stream.write(json.dumps(factory_row(20)) + "\n")
    reader = RunReader(path)
    assert reader.state() == "completed"
    with path.open("a") as stream:
        stream.write(json.dumps({**factory_row(21, loss=0.5), "total_steps": 40}) + "\n")
    reader.refresh()
    assert reader.state() == "unknown"
    assert reader.problems == []


# -- any other metrics.jsonl -----------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "evaluated"),
    [
        ({"step": 1, "loss": 2.0}, {"step": 1, "eval_loss": 1.5}),
        ({"train/global_step": 1, "train/loss": 2.0}, {"train/global_step": 1, "eval/loss": 1.5}),
        ({"_step": 1, "train_loss": 2.0, "_timestamp": 5}, {"_step": 1, "val_loss": 1.5}),
        ({"iter": 1.0, "loss/train": 2.0}, {"iter": 1.0, "loss/val": 1.5}),
        ({"type": "log", "step": 1, "loss": 2.0}, {"type": "log", "step": 1, "valid/loss": 1.5}),
        ({"type": "train", "step": 1, "train/loss": 2.0}, {"type": "val", "step": 1, "val/loss": 1.5}),
    ],
)
def test_usual_column_names_are_known(
    tmp_path: Path, train: dict[str, Any], evaluated: dict[str, Any]
) -> None:
    reader = RunReader(write(tmp_path / "metrics.jsonl", train, evaluated))
    assert (reader.kind, reader.problems) == ("metrics", [])
    assert (reader.columns("train")["step"].tolist(), reader.columns("train")["loss"].tolist()) == ([1], [2])
    assert [(e.step, e.cross_entropy) for e in reader.evals()] == [(1, 1.5)]


def test_a_row_of_both_is_a_step_and_an_eval(tmp_path: Path) -> None:
    row = {"step": 3, "loss": 2.0, "val_loss": 1.5, "gpu": 0.5, "samples": 7}
    reader = RunReader(write(tmp_path / "metrics.jsonl", row))
    assert reader.columns("train")["gpu"].tolist() == [0.5]
    assert (reader.evals()[0].cross_entropy, reader.evals()[0].extra["gpu"]) == (1.5, 0.5)


def test_a_run_that_went_back_to_an_earlier_step_goes_on_from_there(tmp_path: Path) -> None:
    rows = [{"step": s, "loss": 1.0} for s in (1, 2, 3)] + [{"step": s, "loss": 2.0} for s in (2, 3)]
    columns = RunReader(write(tmp_path / "metrics.jsonl", *rows)).columns("train")
    assert columns["loss"].tolist() == [1.0, 2.0, 2.0]


@pytest.mark.parametrize("beside", [True, False])
def test_names_that_nobody_knows_are_mapped_in_yaml(tmp_path: Path, beside: bool) -> None:
    rows = ({"n": 1, "nll": 2.0, "loss": 99.0}, {"n": 1, "holdout": 1.5, "acc": 0.5})
    log = write(tmp_path / "run" / "metrics.jsonl", *rows)
    with pytest.raises(RunError, match=r"there are: acc, holdout, loss, n, nll.*fettle-columns\.yaml"):
        RunReader(log)
    mapping = tmp_path / "run" / "fettle-columns.yaml" if beside else tmp_path / "names.yaml"
    mapping.write_text(
        "train: {step: n, loss: nll}\nfixed_eval: {step: n, cross_entropy: holdout, exact_match: acc}\n"
    )
    reader = RunReader(log.parent, None if beside else mapping)
    assert reader.columns("train")["loss"].tolist() == [2.0]
    assert [(e.step, e.cross_entropy, e.exact_match) for e in reader.evals()] == [(1, 1.5, 0.5)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must hold `train` or `fixed_eval`"),
        ("[1]", "must hold `train` or `fixed_eval`"),
        ("train: [", "is no YAML"),
        ("trian: {loss: a}", r"unknown section 'trian'\. Did you mean 'train'\?"),
        ("train: loss", r"\[train\]: must be a mapping"),
        ("train: {lose: a}", r"\[train\]: unknown key 'lose'\. Did you mean 'loss'\?"),
        ("train: {loss: 3}", "loss must be the name of a column, not 3"),
    ],
)
def test_a_mapping_that_is_wrong_says_where(tmp_path: Path, text: str, problem: str) -> None:
    log = write(tmp_path / "metrics.jsonl", {"step": 1, "loss": 2.0})
    (tmp_path / "fettle-columns.yaml").write_text(text)
    with pytest.raises(RunError, match=problem):
        RunReader(log)


def test_a_mapping_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    log = write(tmp_path / "metrics.jsonl", {"step": 1, "loss": 2.0})
    with pytest.raises(RunError, match="cannot be read: No such file"):
        RunReader(log, tmp_path / "names.yaml")


# -- malformed, truncated, empty, huge ------------------------------------------------------


def test_what_cannot_be_read_is_left_out_and_said(tmp_path: Path) -> None:
    rows = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": None}, {"note": "x"}, {"step": None, "loss": 1.0}]
    path = write(tmp_path / "metrics.jsonl", *rows, end='[3]\n{"step": 3, "lo')
    reader = RunReader(path)
    assert reader.columns("train")["step"].tolist() == [1, 2]
    assert len(reader.problems) == 3
    assert any("1 line could not be read" in p for p in reader.problems)
    assert any("last line is not whole" in p for p in reader.problems)
    assert any("2 rows hold neither" in p for p in reader.problems)
    assert any("last line is not whole" in w for w in open_run(path).verdict().warnings)


def test_an_empty_log_is_a_run_of_which_nothing_is_known(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.touch()
    verdict = open_run(path).verdict()
    assert verdict.action == "insufficient"
    assert any("metrics.jsonl is empty" in w for w in verdict.warnings)
    with path.open("w") as stream:
        stream.write('{"step": 1, "loss": 1.0}\n')
    reader = RunReader(path)
    assert reader.columns("train")["loss"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\x00\xff\xfe binary\nmore\n", "none of its lines is a JSON object"),
        (b'{"text": "a chat"}\n{"text": "b"}\n', r"there are: text"),
        (b'{"loss": 1.0}\n', r"no step with a train loss.*there are: loss"),
    ],
)
def test_a_file_that_is_no_log_of_metrics_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content)
    with pytest.raises(RunError, match=problem):
        RunReader(path)


def test_a_folder_that_holds_no_run_says_what_would_be_one(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"neither a fettle run folder .* trainer_state\.json, metrics\.jsonl"):
        RunReader(tmp_path)


def test_rows_that_never_repeat_a_layout_do_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fettle.runs.column_names.LAYOUTS", 10)
    rows = [{"step": s, "loss": 1.0, f"key{s}": 1.0} for s in range(1, 101)]
    from fettle.runs.column_names import SECTIONS, ColumnNames

    names = ColumnNames(SECTIONS)
    assert all(names.records(row)[0]["loss"] == 1.0 for row in rows)
    assert len(names._layouts) <= 10


# -- the earlier Tinker trainer -------------------------------------------------


def documented_names() -> dict[tuple[str, str], tuple[str, str]]:
    """Record and key there, of each record and key here, as docs/run-folder.md has them."""
    text = (Path(__file__).parents[2] / "docs" / "run-folder.md").read_text(encoding="utf-8")
    rows = text.split("| record here | key here |")[1].split("\n\n")[0].splitlines()[2:]
    cells = [re.findall(r"`([^`]+)`", row) for row in rows]
    return {(here, key): (there, name) for here, key, there, name in cells}


def test_a_log_under_the_earlier_names_says_the_same(tmp_path: Path) -> None:
    names = documented_names()
    rows: list[dict[str, Any]] = [
        {"type": "train", "step": 10, "loss": 1.5, "loss_sum": 30.0, "completion_tokens": 20,
         "tokens_per_sec": 900.0},
        {"type": "train", "step": 20, "loss": 1.25, "loss_sum": 50.0, "completion_tokens": 40,
         "tokens_per_sec": 950.0},
        {"type": "fixed_eval", "step": 20, "cross_entropy": 1.2, "batches": 4},
        {"type": "early_stop", "step": 20, "best": 1.2, "evals_without_improvement": 5},
    ]  # fmt: skip
    assert {(row["type"], key) for row in rows for key in row} >= set(names)
    theirs = [
        {names.get((row["type"], key), ("", key))[1]: value for key, value in row.items()}
        | {"type": next((there for (here, _), (there, _) in names.items() if here == row["type"]), "")}
        for row in rows
    ]
    assert [row["type"] for row in theirs] == ["train", "train", "val", "early_stop"]
    assert "val_loss" in theirs[2]
    here = RunReader(write(tmp_path / "here" / "metrics.jsonl", *rows))
    there = RunReader(write(tmp_path / "there" / "metrics.jsonl", *theirs))
    assert set(here.columns("train")) == {"step", "loss", "loss_sum", "completion_tokens", "tokens_per_sec"}
    for name, column in here.columns("train").items():
        assert there.columns("train")[name].tolist() == column.tolist(), name
    assert there.records("fixed_eval") == here.records("fixed_eval")
    assert there.records("early_stop")[0]["best"] == here.records("early_stop")[0]["best"] == 1.2
    drawn = CliRunner().invoke(cli, ["plot", str(tmp_path / "there"), "-o", str(tmp_path / "curves.png")])
    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / "curves.png").stat().st_size > 10_000
