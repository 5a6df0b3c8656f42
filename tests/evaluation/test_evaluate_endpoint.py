"""`fettle eval --endpoint`: a model behind an API on the same samples, beside a run or alone."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import fettle
from checkpoints_on_disk import write_chats
from fettle.api import evaluate_while_training
from fettle.cli import cli
from fettle.config import EndpointConfig, EvaluationConfig, evaluation_config
from fettle.errors import ConfigError
from fettle.evaluation import openai_api
from fettle.evaluation.compared import find_results
from fettle.evaluation.results import Evaluation
from fettle.evaluation.subject import endpoint_subject
from openai_servers import FaultyServer, answer, model_app, serving
from tiny_models import tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
GREEDY = {"max_new_tokens": 5}
NAME = "endpoint-tiny"


@pytest.fixture(scope="module")
def served(pristine: Path) -> Any:
    """The base model of the run."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(pristine / "base").eval()


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    """Says how long the question is; counts tokens as words."""
    monkeypatch.setattr(openai_api, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(openai_api.OpenAIApi, "models", lambda self: ["tiny"])
    with FaultyServer() as server:
        server.plan = said
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def said(body: dict[str, Any]) -> Any:
    question = body["messages"][-1]["content"]
    text = f"{len(question)} seed {body.get('seed')}"
    return answer(text, usage={"prompt_tokens": len(question.split()), "completion_tokens": 3})


def settings(url: str, **keys: Any) -> EvaluationConfig:
    own = keys.pop("endpoint", {})
    return evaluation_config(None, {"endpoint": {"base_url": url, "model": "tiny", **own}, **keys})


def ask(
    root: Path, url: str, *targets: str, data: str = "valid.jsonl", parallel: int | None = None, **keys: Any
) -> Evaluation:
    checkpoints, report = keys.pop("checkpoints", "10"), keys.pop("report", False)
    return fettle.evaluate(
        *(root / target for target in targets), data=root / data, checkpoints=checkpoints,
        config=settings(url, **keys), out=root / "eval_runs", report=report,
        parallel=parallel,
    )  # fmt: skip


def summary(evaluation: Evaluation, name: str = NAME) -> dict[str, Any]:
    found = json.loads((evaluation.folder / f"results/{name}/summary.json").read_text())
    [own] = [r.summary for r in evaluation.results if r.subject.name == name]
    assert own["samples"] == found["samples"]
    return found


def predictions(evaluation: Evaluation, name: str = NAME) -> list[dict[str, Any]]:
    lines = (evaluation.folder / f"results/{name}/predictions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def texts(evaluation: Evaluation, name: str) -> list[list[str]]:
    return [[answer["text"] for answer in row["answers"]] for row in predictions(evaluation, name)]


# -- the numbers are those of the weights that the server runs --------------------------


@pytest.mark.parametrize("tells", ["prompt_logprobs", "echo"])
def test_an_endpoint_has_the_numbers_of_its_weights_on_the_same_samples(
    root: Path, served: Any, tells: str
) -> None:
    with serving(model_app(served, tiny_tokenizer(), tells=tells)) as url:
        found = ask(root, url, "run", generation=GREEDY, checkers={"same": "exact"})
    assert [r.subject.name for r in found.results] == ["base", "step_10", NAME]
    base, own = summary(found, "base"), summary(found)
    for key in ("cross_entropy", "cross_entropy_low", "exact_match", "exact_match_high", "perplexity"):
        assert own[key] == pytest.approx(base[key], rel=1e-5), key
    for key in ("samples", "tokens", "same_pass_rate", "same_unscored", "answers_length_mean", "patterns"):
        assert own[key] == pytest.approx(base[key], rel=1e-5) if key != "patterns" else True, key
    assert [(c["pattern"], c["seen"], c["correct"]) for c in own["patterns"]] == [
        (c["pattern"], c["seen"], c["correct"]) for c in base["patterns"]
    ]
    # What no server tells is not measured, and not 0.
    assert own["expected_calibration_error"] is own["entropy"] is own["peak_memory_bytes"] is None
    assert own["calibration"] == []
    assert texts(found, NAME) == texts(found, "base")
    for row, other in zip(predictions(found), predictions(found, "base"), strict=True):
        assert row["cross_entropy"] == pytest.approx(other["cross_entropy"], rel=1e-4)
        assert row["first_wrong_token"] == other["first_wrong_token"]
        assert row["confidence"] is row["entropy_mean"] is None
    assert not any(key.startswith("teacher_forced") for key in own)


def test_the_files_are_those_of_every_evaluation(root: Path, served: Any) -> None:
    with serving(model_app(served, tiny_tokenizer(), tells="echo")) as url:
        found = ask(root, url, "run", generation=GREEDY, checkers={"same": "exact"}, report=True)
    own = found.folder / "results" / NAME
    assert {path.name for path in own.iterdir()} == {"metrics.csv", "predictions.jsonl", "summary.json"}
    with (found.folder / "results/consolidated_metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == ["base", "step_10", NAME]
    assert rows[2]["expected_calibration_error"] == ""
    assert float(rows[2]["cross_entropy"]) == pytest.approx(float(rows[0]["cross_entropy"]), rel=1e-5)
    page = (found.folder / "report.html").read_text()
    assert NAME in page
    assert "Use step_10" in page
    assert (found.folder / f"logs/{NAME}.log").is_file()


def test_a_checkpoint_is_compared_with_an_endpoint(root: Path, served: Any) -> None:
    with serving(model_app(served, tiny_tokenizer(), tells="echo")) as url:
        found = ask(root, url, "run", base=False)
    tables = {one.name: one for one in find_results(found.folder)}
    assert list(tables) == ["step_10", NAME]
    arguments = ["compare", str(found.folder), "--baseline", NAME, "--metric", "cross_entropy", "--json"]
    done = CliRunner().invoke(cli, arguments)
    [change] = json.loads(done.output)["changes"]
    assert change["samples"] == 24
    expected = summary(found, "step_10")["cross_entropy"] - summary(found)["cross_entropy"]
    assert change["difference"] == pytest.approx(expected, rel=1e-9)


def test_choices_are_ranked_by_what_the_server_tells(root: Path, served: Any) -> None:
    lines = [json.loads(line) for line in (root / "valid.jsonl").read_text().splitlines()]
    for line in lines:
        line["choices"] = [line["messages"][1]["content"], "abc", "the answer"]
    (root / "choices.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ranked = {"pick": {"kind": "choice", "by": "likelihood"}}
    with serving(model_app(served, tiny_tokenizer(), tells="echo")) as url:
        found = ask(root, url, "run", data="choices.jsonl", checkers=ranked)
        alone = ask(root, url, data="choices.jsonl", checkers=ranked)
    for key in ("pick_pass_rate", "pick_per_byte_pass_rate"):
        assert summary(found)[key] == pytest.approx(summary(found, "base")[key])
    assert 0 < summary(found)["pick_pass_rate"] < 1
    assert summary(alone)["pick_pass_rate"] is None
    assert summary(alone)["pick_unscored"] == 24
    assert "no tokenizer is known" in next(iter(summary(alone)["pick_unscored_reasons"]))


# -- what is not told is not measured ---------------------------------------------------


def test_without_a_tokenizer_answers_are_judged_and_nothing_is_teacher_forced(
    root: Path, faulty: FaultyServer
) -> None:
    found = ask(root, faulty.url, checkers={"right": {"kind": "regex", "pattern": r"^(\d+)"}}, report=True)
    own = summary(found)
    assert [r.subject.name for r in found.results] == [NAME]
    assert own["samples"] == 24
    assert own["cross_entropy"] is own["exact_match"] is own["exact_match_low"] is None
    assert own["tokens"] == own["samples_run"] == 0
    assert own["answers_run"] == own["answers_count"] == 24
    assert own["right_unscored"] == 0
    assert own["right_pass_rate"] == 0.0
    assert own["answers_length_mean"] == 3.0
    assert own["answers_entropy_mean"] is None
    assert own["teacher_forced_unscored"] == 24
    assert "--tokenizer" in next(iter(own["teacher_forced_unscored_reasons"]))
    rows = predictions(found)
    assert [row["answers"][0]["text"] for row in rows] == [
        f"{len(row['prompt'][0]['content'])} seed None" for row in rows
    ]
    assert rows[0]["exact_match"] is rows[0]["tokens"] is None
    page = (found.folder / "report.html").read_text()
    assert "Exact match" not in page  # Nobody measured it.


def test_a_server_that_tells_no_log_probabilities_leaves_the_checkpoints_comparable(
    root: Path, served: Any
) -> None:
    with serving(model_app(served, tiny_tokenizer(), tells=None)) as url:
        found = ask(root, url, "run", checkpoints="10,20", generation=GREEDY, checkers={"same": "exact"})
    own = summary(found)
    assert own["cross_entropy"] is own["exact_match"] is None
    assert own["teacher_forced_unscored_reasons"] == {"the server gives no log-probabilities of a prompt": 24}
    assert own["tokens"] == own["samples_run"] == 0
    assert predictions(found)[0]["tokens"] > 0
    arguments = ["compare", str(found.folder), "--metric", "cross_entropy", "--json"]
    changes = json.loads(CliRunner().invoke(cli, arguments).output)["changes"]
    assert [change["samples"] for change in changes] == [24, 24, 0]


def test_the_tokenizer_of_a_run_is_not_taken_for_that_of_another_model(
    root: Path, faulty: FaultyServer
) -> None:
    found = ask(root, faulty.url, "run", generation=GREEDY)
    [reason] = summary(found)["teacher_forced_unscored_reasons"]
    assert "where the server counts 2. Name its own: --tokenizer" in reason
    assert summary(found)["cross_entropy"] is None
    assert summary(found, "base")["cross_entropy"] is not None


def test_a_tokenizer_that_is_named_serves_without_a_run(root: Path, served: Any) -> None:
    with serving(model_app(served, tiny_tokenizer(), tells="echo")) as url:
        alone = ask(root, url, endpoint={"tokenizer": str(root.parent / "none")})
        assert [skipped.name for skipped in alone.skipped] == [NAME]
        beside = ask(root, url, "run")
        (root / "tokenizer").mkdir()
        tiny_tokenizer().save_pretrained(root / "tokenizer")
        alone = ask(root, url, endpoint={"tokenizer": str(root / "tokenizer")})
    assert summary(alone)["cross_entropy"] == pytest.approx(summary(beside)["cross_entropy"])
    assert summary(alone)["samples_run"] == 0  # The tokens are the same, and so is what was said of them.


# -- errors -----------------------------------------------------------------------------


def test_one_answer_that_is_refused_is_unscored_and_the_others_go_on(
    root: Path, faulty: FaultyServer
) -> None:
    refused = json.loads((root / "valid.jsonl").read_text().splitlines()[3])["messages"][0]["content"]

    def plan(body: dict[str, Any]) -> Any:
        return (400, {}, "too long") if body["messages"][0]["content"] == refused else said(body)

    faulty.plan = plan
    found = ask(root, faulty.url, checkers={"right": "exact"})
    own = summary(found)
    assert own["right_unscored"] == own["answers_unscored"] == 1
    [reason] = own["right_unscored_reasons"]
    assert "status 400: too long" in reason
    row = predictions(found)[3]
    assert row["right_correct"] is None
    assert row["answers"][0]["text"] is None
    assert row["answers"][0]["reason"] == reason
    assert sum(row["right_correct"] is None for row in predictions(found)) == 1
    # It is asked again the next time; the others are not.
    faulty.plan = said
    before = faulty.requests
    again = ask(root, faulty.url, checkers={"right": "exact"})
    assert faulty.requests - before == 1
    assert summary(again)["right_unscored"] == 0


def test_a_server_that_is_gone_or_refuses_leaves_the_checkpoints(
    root: Path, served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = ask(root, "http://127.0.0.1:9/v1", "run", generation=GREEDY, endpoint={"attempts": 1})
    assert [r.subject.name for r in gone.results] == ["base", "step_10"]
    [skipped] = gone.skipped
    assert "cannot be reached" in skipped.reason
    assert "Start the server" in skipped.reason
    with serving(model_app(served, tiny_tokenizer(), tells=None, key="s3cret")) as url:
        monkeypatch.setenv("ENDPOINT_KEY", "s3cret")
        own = {"endpoint": {"api_key_env": "ENDPOINT_KEY"}, "generation": GREEDY}
        assert ask(root, url, **own).skipped == []
        other = {**own, "endpoint": {**own["endpoint"], "model": "other"}}
        [unknown] = ask(root, url, **other).skipped
        assert "does the server have the model 'other'" in unknown.reason
        monkeypatch.setenv("ENDPOINT_KEY", "wr0ng")
        [refused] = ask(root, url, **other).skipped
        assert "status 401" in refused.reason
        assert "set api_key_env" in refused.reason
    written = "".join(path.read_text() for path in root.glob("eval_runs/**/*.*") if path.suffix != ".png")
    assert "s3cret" not in written
    assert "wr0ng" not in written


# -- what was said once is not asked again ----------------------------------------------


def test_an_unchanged_evaluation_asks_nothing(root: Path, served: Any) -> None:
    keys = {"generation": {"n": 2, "temperature": 1.0, "max_new_tokens": 4}, "checkers": {"same": "exact"}}
    with serving(model_app(served, tiny_tokenizer(), tells="echo")) as url:
        first = ask(root, url, "run", **keys)
    again = ask(root, url, "run", **keys)  # Nobody is there any more.
    assert again.skipped == []
    assert (summary(again)["samples_run"], summary(again)["answers_run"]) == (0, 0)
    assert texts(again, NAME) == texts(first, NAME)
    assert summary(again)["cross_entropy"] == summary(first)["cross_entropy"]
    assert again.metadata["endpoint"]["requests"] == 0
    assert first.metadata["endpoint"]["requests"] >= 24 * 3


def test_only_what_changed_is_asked(root: Path, faulty: FaultyServer) -> None:
    keys: dict[str, Any] = {"generation": {"n": 2, "temperature": 0.7}}
    ask(root, faulty.url, **keys)
    asked = [faulty.requests]

    def more(data: str = "valid.jsonl", **changed: Any) -> int:
        ask(root, faulty.url, data=data, **{**keys, **changed})
        asked.append(faulty.requests)
        return asked[-1] - asked[-2]

    assert more() == 0
    assert more(generation={"n": 3, "temperature": 0.7}) == 24
    assert more(generation={"n": 2, "temperature": 0.8}) == 48
    assert more(endpoint={"concurrency": 3}) == 0
    assert more(endpoint={"revision": "2026-11-21"}) == 48
    assert more(endpoint={"model": "other"}) == 48
    write_chats(root / "more.jsonl", 30)
    lines = (root / "more.jsonl").read_text().splitlines()
    (root / "more.jsonl").write_text("\n".join([*lines, lines[-1]]) + "\n")
    assert more("more.jsonl") == 12  # The first 24 are those of before; the last stands there twice.


def test_an_evaluation_that_was_cut_short_goes_on(root: Path, faulty: FaultyServer) -> None:
    def plan(body: dict[str, Any]) -> Any:
        return (401, {}, "no more") if faulty.requests > 10 else said(body)

    faulty.plan = plan
    [skipped] = ask(root, faulty.url, generation=GREEDY, endpoint={"concurrency": 1}).skipped
    assert "status 401" in skipped.reason
    faulty.plan = said
    before = faulty.requests
    found = ask(root, faulty.url, generation=GREEDY, endpoint={"concurrency": 1})
    assert faulty.requests - before == 24 - 10
    assert summary(found)["answers_run"] == 14


def test_the_seed_is_that_of_the_answers_number(root: Path, faulty: FaultyServer) -> None:
    sampled = {"n": 3, "temperature": 0.7, "seed": 5}
    found = ask(root, faulty.url, generation=sampled, parallel=0)  # Workers are for weights.
    assert [text.rpartition(" ")[2] for text in texts(found, NAME)[0]] == ["5", "6", "7"]


# -- cost -------------------------------------------------------------------------------


def test_usage_and_cost_are_those_of_what_was_asked(root: Path, faulty: FaultyServer) -> None:
    prices = {"prompt_price": 2.0, "completion_price": 10.0}
    found = ask(root, faulty.url, generation=GREEDY, endpoint=prices)
    metadata = json.loads((found.folder / "metadata.json").read_text())
    expected = {"requests": 24, "prompt_tokens": 48, "completion_tokens": 72, "retries": 0}
    assert {key: metadata["endpoint"][key] for key in expected} == expected
    assert metadata["endpoint"]["cost"] == pytest.approx((2 * 48 + 10 * 72) / 1e6)
    assert metadata["cost"] == metadata["endpoint"]["cost"] == found.metadata["cost"]
    again = ask(root, faulty.url, generation=GREEDY, endpoint=prices)
    assert again.metadata["cost"] == 0.0  # Nothing was asked.


def test_a_cost_that_is_not_known_is_none(root: Path, faulty: FaultyServer) -> None:
    assert ask(root, faulty.url, generation=GREEDY).metadata["cost"] is None
    uncounted = 0

    def plan(body: dict[str, Any]) -> Any:
        nonlocal uncounted
        uncounted += 1
        return answer("no count") if uncounted == 1 else said(body)

    faulty.plan = plan
    prices = {"prompt_price": 2.0, "completion_price": 10.0, "revision": "2"}
    found = ask(root, faulty.url, generation=GREEDY, endpoint=prices)
    assert found.metadata["endpoint"]["prompt_tokens"] == 46
    assert found.metadata["cost"] is None  # Less than the truth is not the cost.


def test_an_hour_of_the_machine_has_its_price(root: Path, faulty: FaultyServer) -> None:
    prices = {"prompt_price": 2.0, "completion_price": 10.0}
    both = ask(root, faulty.url, "run", generation=GREEDY, endpoint=prices, price_per_hour=3600.0)
    metadata = json.loads((both.folder / "metadata.json").read_text())
    assert metadata["cost"] == pytest.approx(metadata["seconds"] + metadata["endpoint"]["cost"])
    unpriced = ask(root, faulty.url, "run", generation=GREEDY, endpoint=prices)
    assert unpriced.metadata["cost"] is None
    local = fettle.evaluate(
        root / "run",
        config={"price_per_hour": 7200.0},
        checkpoints="10",
        out=root / "eval_runs",
        report=False,
    )
    metadata = json.loads((local.folder / "metadata.json").read_text())
    assert metadata["cost"] == pytest.approx(2 * metadata["seconds"])
    assert metadata["endpoint"] is None


# -- the command ------------------------------------------------------------------------


def test_the_command_evaluates_an_endpoint_alone(
    root: Path, served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    with serving(model_app(served, tiny_tokenizer(), tells="echo")) as url:
        arguments = [
            "eval", "--endpoint", url, "--endpoint-model", "tiny", "--tokenizer", "tokenizer",
            "--data", "valid.jsonl", "--checker", "exact", "--max-new-tokens", "5",
            "--set", "endpoint.prompt_price=1", "--set", "endpoint.completion_price=1", "--no-report",
        ]  # fmt: skip
        tiny_tokenizer().save_pretrained(root / "tokenizer")
        done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert NAME in done.output
    assert "asked" in done.output
    assert "cost     0.00" in done.output
    assert "asked    nothing" in CliRunner().invoke(cli, arguments).output
    assert "—" not in done.output.split("\n")[1].split("48")[0]  # EM and CE are there.


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name what is to be evaluated, or --endpoint"),
        (["--endpoint", "http://x/v1", "--endpoint-model", "m", "--watch"], "Missing argument"),
    ],
)
def test_what_is_evaluated_must_be_named(arguments: list[str], says: str) -> None:
    done = CliRunner().invoke(cli, ["eval", *arguments])
    assert done.exit_code == 2
    assert says in done.output


def test_what_does_not_go_with_an_endpoint_is_refused(root: Path) -> None:
    own = {"base_url": "http://x/v1", "model": "m"}
    with pytest.raises(ConfigError, match="tasks run on weights"):
        evaluation_config(None, {"endpoint": own, "tasks": {"names": ["a"]}})
    with pytest.raises(ConfigError, match=r"generation\.logprobs cannot be had from an endpoint"):
        evaluation_config(None, {"endpoint": own, "generation": {"logprobs": True}})
    with pytest.raises(ConfigError, match="'answers' is measured anyway"):
        evaluation_config(None, {"checkers": {"answers": "exact"}})
    with pytest.raises(ConfigError, match="does not go with --watch"):
        evaluate_while_training(root / "run", config={"endpoint": own})
    with pytest.raises(ConfigError, match="model"):
        evaluation_config(None, {"endpoint": {"base_url": "http://x/v1"}})


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Qwen/Qwen3-8B", "endpoint-Qwen3-8B"),
        ("runs/a b/checkpoint-10/", "endpoint-checkpoint-10"),
        ("gpt:4 o", "endpoint-gpt_4_o"),
    ],
)
def test_an_endpoint_has_the_name_of_its_model(model: str, name: str) -> None:
    assert endpoint_subject(EndpointConfig(base_url="http://x/v1", model=model), []).name == name
