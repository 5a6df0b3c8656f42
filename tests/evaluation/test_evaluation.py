"""Every checkpoint on the same samples: right numbers, run once, never lost, bad ones skipped."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints_on_disk import run_evaluation as run
from checkpoints_on_disk import save_adapter, save_base, write_chats, write_run
from fettle.cli import main
from fettle.config import EvaluationConfig
from fettle.data import ChatEncoder, read_examples
from fettle.errors import DataError, RunError
from fettle.evaluation.cache import ScoreCache
from fettle.evaluation.evaluate import evaluate
from fettle.evaluation.loaded_model import LoadedModel
from fettle.evaluation.results import Evaluation, Progress
from fettle.evaluation.results_folder import ResultsFolder
from fettle.evaluation.subject import Subject, find_subjects
from fettle.runs import RunFolder, RunReader
from fettle.runs.discover import RunFinder, newest_run
from fettle.runs.folder import CALLBACK_FOLDER
from fettle.runs.records import SampleResults
from fettle.scoring import score
from tiny_models import tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")


def sums(evaluation: Evaluation) -> dict[str, np.ndarray]:
    return {r.subject.name: r.samples.cross_entropy_sum for r in evaluation.results}


def metadata(evaluation: Evaluation) -> dict[str, Any]:
    return orjson.loads((evaluation.folder / "metadata.json").read_bytes())


def slowly(root: Path, pristine: Path, step: int) -> Any:
    """The scores of a checkpoint by a model that was loaded for it alone."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(pristine / "base").eval()
    if step:
        model = peft.PeftModel.from_pretrained(model, str(root / f"run/checkpoints/checkpoint-{step}")).eval()
    encoder = ChatEncoder(tiny_tokenizer(), max_seq_length=2048)
    return score(model, encoder.encode_all(read_examples(root / "valid.jsonl")).sequences)


def test_numbers_are_those_of_each_checkpoint_loaded_alone(root: Path, pristine: Path) -> None:
    evaluation = run(root)
    assert [r.subject.name for r in evaluation.results] == ["base", "step_10", "step_20", "step_30"]
    for result in evaluation.results:
        alone = slowly(root, pristine, result.subject.step or 0)
        np.testing.assert_allclose(result.samples.cross_entropy_sum, alone.cross_entropy_sum, rtol=1e-5)
        np.testing.assert_array_equal(result.samples.exact_match, alone.exact_match)
        assert result.summary["cross_entropy"] == pytest.approx(alone.cross_entropy, rel=1e-6)
    assert metadata(evaluation)["models_loaded"] == 1
    assert len({r.summary["cross_entropy"] for r in evaluation.results}) == 4


def test_adapters_leave_nothing_behind_on_the_base(root: Path, pristine: Path) -> None:
    subjects, _ = find_subjects(str(root / "run"))
    base, *steps = subjects
    other = root / "other"
    save_adapter(other, pristine / "base", seed=5, rank=2)
    order = [steps[2], base, steps[0], Subject("rank_2", None, base.model, other), steps[1], base]
    names = [Subject(f"{i}", s.step, s.model, s.adapter) for i, s in enumerate(order)]
    found = sums(evaluate(names, [root / "valid.jsonl"], EvaluationConfig(), out=root, cache=NoCache()))
    straight = sums(run(root))
    for place, name in ((0, "step_30"), (1, "base"), (2, "step_10"), (4, "step_20"), (5, "base")):
        np.testing.assert_array_equal(found[str(place)], straight[name])


class NoCache(ScoreCache):
    """Remembers nothing."""

    def __init__(self) -> None:
        super().__init__(Path("/dev/null/none"))


def test_an_unchanged_evaluation_loads_no_model(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(root)
    monkeypatch.setattr(LoadedModel, "_load", lambda *_: pytest.fail("a model is loaded"))
    again = run(root)
    assert again.folder != first.folder
    for name, values in sums(first).items():
        np.testing.assert_array_equal(sums(again)[name], values)
    for before, after in zip(first.results, again.results, strict=True):
        for field in SampleResults.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(before.samples, field), getattr(after.samples, field))
    assert {r.summary["samples_run"] for r in again.results} == {0}


def test_only_samples_that_changed_are_run(root: Path) -> None:
    run(root)
    lines = (root / "valid.jsonl").read_text().splitlines()
    lines[3] = lines[3].replace("say", "tell")
    (root / "elsewhere.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    again = run(root, data=[root / "elsewhere.jsonl"])
    assert {r.summary["samples_run"] for r in again.results} == {1}


def test_weights_that_lie_elsewhere_are_known(root: Path) -> None:
    run(root)
    shutil.move(root / "run", root / "moved")
    subjects, _ = find_subjects(str(root / "moved"), base=False)
    again = evaluate(subjects, [root / "valid.jsonl"], EvaluationConfig(), out=root / "eval_runs")
    assert {r.summary["samples_run"] for r in again.results} == {0}


def test_weights_overwritten_in_place_are_run_again(root: Path) -> None:
    before = run(root, "20")
    file = root / "run/checkpoints/checkpoint-20/adapter_model.safetensors"
    (file.parent / "manifest.json").unlink()
    status, weights = file.stat(), load_file(file)
    changed = {name: tensor * 1.5 for name, tensor in weights.items()}
    data = save_bytes(changed, root)
    with file.open("r+b") as stream:
        stream.write(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    after = run(root, "20")
    assert [r.summary["samples_run"] for r in after.results] == [0, 24]
    assert not np.array_equal(sums(before)["step_20"], sums(after)["step_20"])


def save_bytes(tensors: dict[str, torch.Tensor], root: Path) -> bytes:
    save_file(tensors, root / "aside.safetensors", metadata={"format": "pt"})
    return (root / "aside.safetensors").read_bytes()


@pytest.mark.parametrize("change", [{"dtype": "bfloat16"}, {"max_seq_length": 30}])
def test_another_type_or_other_tokens_are_other_results(root: Path, change: dict[str, Any]) -> None:
    run(root, "10")
    again = run(root, "10", config=EvaluationConfig(**change))
    ran = again.results[0].summary["samples_run"]
    assert ran == 24 if "dtype" in change else again.results[0].summary["unscored"] > 0
    if "dtype" not in change:
        assert ran == 0


def table_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_files_say_what_was_found(root: Path) -> None:
    evaluation = run(root, "10,30")
    folder = evaluation.folder
    assert sorted(p.name for p in folder.iterdir()) == ["config.yaml", "logs", "metadata.json", "results"]
    for result in evaluation.results:
        inside = folder / "results" / result.subject.name
        rows = table_of(inside / "metrics.csv")
        texts = [json.loads(line) for line in (inside / "predictions.jsonl").read_text().splitlines()]
        summary = json.loads((inside / "summary.json").read_text())
        assert len(rows) == len(texts) == 24
        tokens = np.array([int(row["tokens"]) for row in rows])
        means = np.array([float(row["cross_entropy"]) for row in rows])
        assert float((tokens * means).sum() / tokens.sum()) == pytest.approx(summary["cross_entropy"])
        assert summary["per_sample"]["cross_entropy"]["median"] == pytest.approx(np.median(means))
        assert texts[5]["golden"] in texts[5]["prompt"][0]["content"]
        assert summary["peak_memory_bytes"] > 1e6
    consolidated = table_of(folder / "results/consolidated_metrics.csv")
    assert [row["name"] for row in consolidated] == ["base", "step_10", "step_30"]
    assert {p.name for p in (folder / "logs").iterdir()} >= {"evaluation.log", "step_10.log"}
    assert evaluation.to_pandas()["exact_match"].tolist() == [
        r.summary["exact_match"] for r in evaluation.results
    ]


def test_an_interrupted_evaluation_goes_on_in_its_folder(root: Path) -> None:
    def stop(at: Progress) -> None:
        if at.number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(root, on_progress=stop)
    (folder,) = (root / "eval_runs").iterdir()
    assert orjson.loads((folder / "metadata.json").read_bytes())["state"] == "interrupted"
    assert (folder / "results/step_10/summary.json").is_file()
    evaluation = run(root)
    assert evaluation.folder == folder
    # The third had been scored and kept when it was interrupted.
    assert [r.summary["samples_run"] for r in evaluation.results] == [0, 0, 0, 24]
    assert metadata(evaluation)["state"] == "completed"


def test_checkpoints_that_cannot_be_used_are_skipped_with_the_reason(root: Path, pristine: Path) -> None:
    checkpoints = root / "run/checkpoints"
    cut = checkpoints / "checkpoint-10/adapter_model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-50])
    save_base(root / "wider", seed=1, intermediate_size=48)
    for step, base in ((40, root / "wider"), (50, pristine / "base")):
        save_adapter(checkpoints / f"checkpoint-{step}", base, seed=step)
    config = checkpoints / "checkpoint-50/adapter_config.json"
    config.write_text(config.read_text().replace('"r": 4', '"r": 8'))
    (checkpoints / "checkpoint-60").mkdir()
    evaluation = run(root)
    assert [r.subject.name for r in evaluation.results] == ["base", "step_20", "step_30"]
    reasons = {skip.name: skip.reason for skip in evaluation.skipped}
    assert "bytes, not" in reasons["step_10"]
    assert "its adapter is for" in reasons["step_40"]
    assert "has the shape" in reasons["step_50"]
    assert "holds no weights" in reasons["step_60"]
    assert metadata(evaluation)["skipped"] == [{"name": n, "reason": r} for n, r in reasons.items()]


def test_weights_that_are_not_finite_give_no_number(root: Path) -> None:
    folder = root / "run/checkpoints/checkpoint-20"
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({n: t * torch.nan for n, t in weights.items()}, folder / "adapter_model.safetensors")
    (folder / "manifest.json").unlink()
    evaluation = run(root, "20")
    summary = json.loads((evaluation.folder / "results/step_20/summary.json").read_text())
    assert summary["cross_entropy"] is None
    assert summary["exact_match"] == 0


@pytest.mark.parametrize(
    ("which", "message"),
    [("best,15", "no checkpoint of step 15"), ("some", "must be all, best, last"), ("-3", "must be all")],
)
def test_checkpoints_that_are_not_there_are_named(root: Path, which: str, message: str) -> None:
    with pytest.raises(RunError, match=message):
        run(root, which)


def test_data_that_cannot_be_used_is_named(root: Path) -> None:
    (root / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="empty"):
        run(root, data=[root / "empty.jsonl"])
    with pytest.raises(DataError, match=r"missing\.jsonl"):
        run(root, data=[root / "missing.jsonl"])


def test_several_files_lie_apart(root: Path) -> None:
    write_chats(root / "hard.jsonl", 5, seed=9)
    evaluation = run(root, "30", data=[root / "valid.jsonl", root / "hard.jsonl"])
    assert [(r["name"], r["data"], r["samples"]) for r in evaluation.rows()] == [
        ("base", "valid.jsonl", 24), ("base", "hard.jsonl", 5),
        ("step_30", "valid.jsonl", 24), ("step_30", "hard.jsonl", 5),
    ]  # fmt: skip
    assert (evaluation.folder / "results/step_30/hard/metrics.csv").is_file()


@pytest.mark.parametrize("inside", ["", CALLBACK_FOLDER], ids=["of fettle", "of a trainer with the callback"])
def test_the_command_prints_json_and_takes_models(
    root: Path, pristine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    inside: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(root)
    target = "out" if inside else "named"
    Path("out").mkdir()
    Path("run").rename(Path(target, inside))
    arguments = [target, str(pristine / "base"), "--checkpoints", "last", "--no-base", "--max-samples", "9"]
    monkeypatch.setattr("sys.argv", ["fettle", "eval", *arguments, "--no-report", "--json"])
    with pytest.raises(SystemExit) as exit:
        main()
    assert exit.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    assert [(r["name"], r["samples"]) for r in printed["results"]] == [("step_30", 9), ("base", 9)]
    assert Path(printed["folder"]).is_dir()


def test_results_are_not_taken_for_a_run(tmp_path: Path) -> None:
    run = write_run(tmp_path, steps=(10,))
    folder = ResultsFolder.create(tmp_path / "eval_runs", "valid", "device: cpu\n")
    folder.write_metadata({"state": "running"})
    assert RunFinder(tmp_path).find() == [run]
    assert newest_run(tmp_path) == run
    assert not RunFolder.is_run(folder.path)
    with pytest.raises(RunError, match="no run"):
        RunReader(folder.path)
