"""`fettle eval --mirror`: other tools hold each checkpoint's numbers over its step, by their own APIs."""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import fettle
from checkpoints_on_disk import run_evaluation as run
from fettle.cli import cli
from fettle.config import EvaluationConfig, evaluation_config
from fettle.errors import ConfigError, MissingExtraError
from fettle.evaluation import mirrors
from fettle.evaluation.results import Evaluation

KEYS = ("exact_match", "cross_entropy", "expected_calibration_error", "same_pass_rate")


def settings(*names: str, **keys: Any) -> EvaluationConfig:
    generation = {"max_new_tokens": 4}
    return evaluation_config(
        None, {"mirrors": list(names), "checkers": {"same": "exact"}, "generation": generation, **keys}
    )


def expected(evaluation: Evaluation) -> dict[int, dict[str, float]]:
    """What summary.json says of each step."""
    found: dict[int, dict[str, float]] = {}
    for result in evaluation.results:
        assert result.subject.step is not None
        file = evaluation.folder / f"results/{result.subject.name}/summary.json"
        summary = json.loads(file.read_text())
        found[result.subject.step] = {f"valid/{key}": summary[key] for key in KEYS}
    assert sorted(found) == [0, 10, 20, 30]
    return found


def agrees(told: dict[int, dict[str, float]], evaluation: Evaluation, rel: float = 1e-12) -> None:
    for step, numbers in expected(evaluation).items():
        own = {key: told[step][key] for key in numbers}
        assert own == pytest.approx(numbers, rel=rel), step
    assert len(told) == len(expected(evaluation))


def test_tensorboard_holds_every_checkpoint(root: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = run(root, config=settings("tensorboard"))
    events: Any = accumulator.EventAccumulator(str(found.folder / "tensorboard"))
    events.Reload()
    told: dict[int, dict[str, float]] = {}
    for tag in events.Tags()["scalars"]:
        for event in events.Scalars(tag):
            told.setdefault(event.step, {})[tag] = event.value
    agrees(told, found, rel=1e-6)  # They are float32 there.
    assert not any("low" in tag or "samples" in tag for tag in events.Tags()["scalars"])


def test_the_event_file_is_read_by_fettle_itself(root: Path) -> None:
    pytest.importorskip("tensorboard")
    found = run(root, config=settings("tensorboard"))
    names = {"exact_match": "valid/exact_match", "cross_entropy": "valid/cross_entropy"}
    (root / "columns.yaml").write_text(json.dumps({"fixed_eval": names}))
    evals = fettle.open_run(found.folder / "tensorboard", columns=root / "columns.yaml").evals()
    told = {e.step: {f"valid/{key}": getattr(e, key) for key in names} | e.extra for e in evals}
    agrees(told, found, rel=1e-6)


WANDB_HEADER = 7


def leveldb_records(data: bytes) -> Iterator[bytes]:
    """Records of a LevelDB log, in which W&B keeps a run: pieces with checksum, length and type in blocks."""
    at, parts = 0, b""
    place = at + WANDB_HEADER
    while at + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            at, place = at + left, place + left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        parts += data[at + 7 : at + 7 + length]
        at, place = at + 7 + length, place + 7 + length
        if kind in (1, 4):  # The whole of a record, or its last piece.
            yield parts
            parts = b""


def test_wandb_holds_every_checkpoint(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(root))
    found = run(root, config=settings("wandb"))
    [file] = root.glob("wandb/offline-run-*/*.wandb")
    told: dict[int, dict[str, float]] = {}
    for data in leveldb_records(file.read_bytes()[WANDB_HEADER:]):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "run":
            assert record.run.display_name == found.folder.name
        if record.WhichOneof("record_type") == "history":
            items = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
            told[items["step"]] = items
    agrees(told, found)


def test_mlflow_holds_every_checkpoint(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (root / "mlruns").as_uri())
    # A database needs SQLAlchemy, which the small package does not bring along.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    found = run(root, config=settings("mlflow"))
    client: Any = mlflow.MlflowClient(tracking_uri=(root / "mlruns").as_uri())
    [told_run] = client.search_runs([client.get_experiment_by_name("fettle").experiment_id])
    assert told_run.info.run_name == found.folder.name
    assert told_run.info.status == "FINISHED"
    told: dict[int, dict[str, float]] = {}
    for key in told_run.data.metrics:
        for metric in client.get_metric_history(told_run.info.run_id, key):
            told.setdefault(metric.step, {})[key] = metric.value
    agrees(told, found)


def test_trackio_holds_every_checkpoint(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackio")
    storage = pytest.importorskip("trackio.sqlite_storage")
    for module in ("trackio.sqlite_storage", "trackio.utils"):
        monkeypatch.setattr(f"{module}.TRACKIO_DIR", root / "trackio")
    found = run(root, config=settings("trackio"))
    assert storage.SQLiteStorage.get_runs("fettle") == [found.folder.name]
    logs = storage.SQLiteStorage.get_logs("fettle", found.folder.name)
    agrees({row["step"]: row for row in logs}, found)


# -- whatever they do, the evaluation stands --------------------------------------------


class Failing:
    """A tool that loses its connection."""

    def __init__(self, folder: Path) -> None:
        self.written = 0
        print("connected")

    def write(self, step: int, values: dict[str, float]) -> None:
        self.written += 1
        if self.written == 2:
            raise ConnectionError("the server is gone")

    def close(self) -> None:
        raise AssertionError("it was left out")


class Listening:
    """Writes down what it is told."""

    told: list[Any]

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        Listening.told = [folder.name]

    def write(self, step: int, values: dict[str, float]) -> None:
        there = (self.folder / "results" / (f"step_{step}" if step else "base") / "summary.json").is_file()
        Listening.told.append((step, there, values))

    def close(self) -> None:
        Listening.told.append("closed")


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "import_module", lambda name: None)
    monkeypatch.setitem(mirrors.TOOLS, "wandb", Failing)
    monkeypatch.setitem(mirrors.TOOLS, "mlflow", Listening)


@pytest.mark.usefixtures("tools")
def test_a_tool_that_fails_is_left_out_and_the_evaluation_goes_on(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    said: list[str] = []
    monkeypatch.setattr(mirrors.logger, "warning", lambda text, *parts: said.append(text.format(*parts)))
    done = CliRunner().invoke(cli, ["eval", "run", "--mirror", "wandb,mlflow", "--no-report", "--json"])
    assert done.exit_code == 0, done.output
    names = [row["name"] for row in json.loads(done.stdout)["results"]]  # Not a word of theirs among it.
    assert names == ["base", "step_10", "step_20", "step_30"]
    [warning] = [line for line in said if "is told no more" in line]
    assert "wandb is told no more: ConnectionError: the server is gone" in warning
    name, *told, closed = Listening.told
    assert name.startswith("run_")
    assert [(step, there) for step, there, _ in told] == [(0, True), (10, True), (20, True), (30, True)]
    assert closed == "closed"


@pytest.mark.usefixtures("tools")
def test_several_files_have_their_names_and_what_is_not_measured_is_not_told(root: Path) -> None:
    (root / "other.jsonl").write_text((root / "valid.jsonl").read_text().splitlines(keepends=True)[0])
    data = [root / "valid.jsonl", root / "other.jsonl"]
    found = run(root, "10", config=settings("mlflow"), data=data)
    [_, (step, _, values)] = Listening.told[1:-1]
    assert step == 10
    assert {key.split("/")[0] for key in values} == {"valid", "other"}
    assert all(math.isfinite(value) for value in values.values())
    found.results[0].summary["exact_match"] = None
    assert "valid/exact_match" not in mirrors.scalars(found.results[0])


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio", "tensorboard"])
def test_a_tool_that_is_not_installed_is_named_before_anything_runs(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'fettle\[{name}\]'"):
        fettle.evaluate(root / "run", config={"mirrors": [name]}, out=root / "eval_runs")
    assert not (root / "eval_runs").exists()


def test_an_unknown_tool_is_refused() -> None:
    with pytest.raises(ConfigError, match="tensorboard"):
        evaluation_config(None, {"mirrors": ["tensorbord"]})
