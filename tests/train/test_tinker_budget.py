"""What a run on Tinker was charged so far, and the budget that ends it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("tinker")

from fettle.api import open_run
from fettle.config import load_config, not_honoured
from fettle.errors import ConfigError, RunError
from fettle.runs import RunReader
from fettle.train.estimate import estimate
from fettle.train.job import train
from fettle.train.state import Outcome
from forked import forked
from tinker_server import KEY, TinkerServer, tinker_server
from train.tinker_project import STEPS, write_project

# Ten thousand dollars a million tokens: a cent a token, so that amounts can be read.
PRICES = "tinker.prices={train: 10000.0, prefill: 1000.0, sample: 100.0}"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("budget"))


@pytest.fixture(scope="module")
def server(project: Path) -> Iterator[TinkerServer]:
    with tinker_server(project / "base", project / "service") as running:
        yield running


def run(project: Path, server: TinkerServer, out: Path, *overrides: str) -> Outcome:
    environment = {"TINKER_BASE_URL": server.url, "TINKER_API_KEY": KEY}
    config = load_config(project / "train.yaml", overrides)
    return forked(lambda: train(config, out=out, log_level="CRITICAL"), environment)


def trained_tokens(server: TinkerServer, after: int) -> int:
    """What the service itself counted of forward and backward passes."""
    entries = server.log()[after:]
    return sum(
        len(tokens) for entry in entries if entry["op"] == "forward_backward" for tokens in entry["tokens"]
    )


def test_what_is_spent_is_tokens_times_prices(project: Path, server: TinkerServer, tmp_path: Path) -> None:
    before = len(server.log())
    run(project, server, tmp_path / "run", PRICES, "training.max_steps=6")
    reader = RunReader(tmp_path / "run")
    status = reader.status()
    assert status is not None
    tokens = trained_tokens(server, before)
    assert tokens == reader.columns("train")["tokens"].sum() == status["billed_train_tokens"]
    # The one eval scores 6 chats twice: a forward pass, and their likeliest tokens, one sampled after each.
    valid = [json.loads(line)["messages"] for line in (project / "valid.jsonl").read_text().splitlines()]
    (evaluated,) = reader.records("fixed_eval")
    assert evaluated["billed_sample_tokens"] == len(valid) == 6
    assert evaluated["billed_prefill_tokens"] > 2 * evaluated["tokens"]
    planned = estimate(load_config(project / "train.yaml", [PRICES, "training.max_steps=6"]))
    billed = evaluated["billed_prefill_tokens"], evaluated["billed_sample_tokens"]
    assert (planned.evals, planned.evals_by_logprobs) == (1, billed)
    asked = reader.predictions()
    assert status["billed_prefill_tokens"] == evaluated["billed_prefill_tokens"] + sum(
        row["prompt_tokens"] for row in asked
    )
    assert status["billed_sample_tokens"] == 6 + sum(row["completion_tokens"] for row in asked)
    expected = tokens / 100 + status["billed_prefill_tokens"] / 1000 + status["billed_sample_tokens"] / 10_000
    assert status["spent_usd"] == pytest.approx(expected)
    assert reader.records("end")[-1]["spent_usd"] == pytest.approx(expected)
    metadata = json.loads((tmp_path / "run" / "metadata.json").read_text())
    assert metadata["prices"] == {"train": 10000.0, "prefill": 1000.0, "sample": 100.0, "as_of": None}
    # Submitted one ahead, a step is charged before the one in front of it is recorded.
    spent = reader.columns("train")["spent_usd"]
    assert (spent[1:] >= spent[:-1]).all()


def test_without_a_price_nothing_is_known_to_be_spent(
    project: Path, server: TinkerServer, tmp_path: Path
) -> None:
    run(project, server, tmp_path / "run", "training.max_steps=2", "data.fixed_eval=null")
    status = RunReader(tmp_path / "run").status()
    assert status is not None
    assert status["spent_usd"] is None
    assert status["billed_train_tokens"] > 0


def test_a_budget_without_prices_is_refused(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"tinker\.budget.* needs prices.*give train, prefill and sample"):
        load_config(project / "train.yaml", ["tinker.budget=5.0"])
    load_config(project / "train.yaml", ["tinker.budget=5.0", "model=Qwen/Qwen3-8B"])
    load_config(project / "train.yaml", ["tinker.budget=5.0", PRICES])


def test_the_budget_ends_the_run_and_a_higher_one_goes_on(
    project: Path, server: TinkerServer, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    first = len(server.log())
    stopped = run(project, server, out, PRICES, "tinker.budget=11.0")
    assert stopped.state == "early_stopped"
    assert 2 < stopped.step < STEPS - 2
    assert stopped.checkpoint is not None
    assert stopped.checkpoint.name == f"checkpoint-{stopped.step}"
    assert server.log()[-1]["op"] == "save"
    assert "above its budget of $11.00" in stopped.reason
    reader = RunReader(out)
    spent = reader.records("end")[-1]["spent_usd"]
    # What was not sent would have broken it: a step of four chats.
    assert 11 - 4 * 0.6 < spent <= 11
    verdict = open_run(out).verdict()
    assert verdict.reasons[0].startswith(f"The budget of $11.00 ended the run, with ${spent:,.2f} spent.")

    with pytest.raises(RunError, match=r"has spent its budget of \$11\.00\. To go on, give a higher"):
        run(project, server, out, PRICES, "tinker.budget=11.0")
    done = run(project, server, out, PRICES, "tinker.budget=1000.0")
    assert done.state == "completed"
    reader = RunReader(out)
    assert reader.columns("train")["step"].tolist() == list(range(1, STEPS + 1))
    status = reader.status()
    assert status is not None
    # Nothing was sent twice, and nothing of the first part is forgotten.
    assert status["billed_train_tokens"] == trained_tokens(server, first)
    assert status["billed_train_tokens"] == reader.columns("train")["tokens"].sum()


@pytest.mark.slow
def test_the_example_trains(project: Path, server: TinkerServer, tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "tinker.yaml"
    assert set(not_honoured(load_config(example))) == {"lora.alpha"}
    config = load_config(
        example,
        [
            f"model={project / 'base'}",
            f"data.train={project / 'train.jsonl'}",
            f"data.fixed_eval={project / 'valid.jsonl'}",
            "training.max_seq_length=128",
            PRICES,
            "tinker.budget=1000.0",
        ],
    )
    expected = estimate(config)
    assert expected.cost is not None
    environment = {"TINKER_BASE_URL": server.url, "TINKER_API_KEY": KEY}
    done = forked(lambda: train(config, out=tmp_path / "run", log_level="CRITICAL"), environment)
    assert done.state == "completed"
    assert done.step == expected.steps == 4
    status = RunReader(tmp_path / "run").status()
    assert status is not None
    # The estimate is that of the longest answers; a fixed eval samples a token a chat beside its two passes.
    assert 0.9 * expected.cost["total"] < status["spent_usd"] < expected.cost["total"] + 0.01
