"""`fettle train --estimate`: what a training takes is known before it, and is what it then takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import fettle
from fettle.cli import cli
from fettle.config import load_config, published_prices
from fettle.errors import DataError
from fettle.train.estimate import estimate
from fettle.train.job import train
from train.tinker_project import STEPS, write_project

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
PRICES = ("tinker.prices={train: 2.0, prefill: 1.0, sample: 4.0}",)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("estimate"))


def test_a_training_takes_what_was_estimated(project: Path, tmp_path: Path) -> None:
    config = load_config(project / "train.yaml", ["backend=local", "training.max_steps=13"])
    found = estimate(config)
    train(config, out=tmp_path / "run", log_level="CRITICAL")
    run = fettle.open_run(tmp_path / "run")
    rows = run.columns("train")
    assert found.steps == len(rows["step"]) == 13
    assert found.train_tokens == rows["tokens"].sum()
    assert found.completion_tokens == rows["completion_tokens"].sum()
    assert found.evals == len(run.evals())
    asked = run.predictions()
    assert found.prompt_tokens == sum(row["prompt_tokens"] for row in asked)
    assert 0 < sum(row["completion_tokens"] for row in asked) <= found.sampled_tokens == 4 * len(asked)
    assert found.cost is None


def test_the_cost_is_tokens_times_prices(project: Path) -> None:
    found = estimate(load_config(project / "train.yaml", PRICES))
    assert found.steps == STEPS
    cost = found.cost
    assert cost is not None
    assert cost["train"] == pytest.approx(found.train_tokens * 2e-6)
    read, sampled = found.evals_by_logprobs
    assert read == 2 * found.eval_tokens
    by_logprobs = read * 1e-6 + sampled * 4e-6
    read, sampled = found.evals_by_sampling
    by_sampling = read * 1e-6 + sampled * 4e-6
    assert cost["evals"] == pytest.approx(max(by_logprobs, by_sampling))  # Which one is not known yet.
    assert cost["answers"] == pytest.approx(found.prompt_tokens * 1e-6 + found.sampled_tokens * 4e-6)
    assert cost["total"] == pytest.approx(cost["train"] + cost["evals"] + cost["answers"])
    assert found.prices_as_of is None


def test_a_model_without_a_price_has_no_cost(project: Path) -> None:
    assert estimate(load_config(project / "train.yaml")).cost is None
    known = published_prices("Qwen/Qwen3-8B")
    assert known is not None
    assert known[1] == "2026-10-07"
    assert published_prices("nobody/nothing") is None


def test_the_command_prints_it_and_trains_nothing(project: Path, tmp_path: Path) -> None:
    arguments = ["train", str(project / "train.yaml"), "--estimate", "--out", str(tmp_path / "run")]
    said = CliRunner().invoke(cli, arguments, catch_exceptions=False).output
    assert "cost        unknown" in said
    said = CliRunner().invoke(cli, [*arguments, "--set", *PRICES], catch_exceptions=False).output
    assert f"steps       {STEPS}" in said
    assert "at most (train $0.00, evals $0.00, answers $0.00), by tinker.prices" in said
    told = json.loads(CliRunner().invoke(cli, [*arguments, "--json", "--set", *PRICES]).output)
    assert told["cost"]["total"] > 0
    assert told["steps"] == STEPS
    assert not (tmp_path / "run").exists()


def test_data_that_cannot_be_used_is_refused_as_in_training(project: Path) -> None:
    with pytest.raises(DataError, match="no token to learn from"):
        estimate(load_config(project / "train.yaml", ["training.max_seq_length=8"]))
