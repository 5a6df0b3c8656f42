"""Checkpoints that answer: the answers are the model's own, run once, judged by what was asked for."""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints_on_disk import run_evaluation as run
from fettle.cli import main
from fettle.cli.eval_output import print_evaluation
from fettle.config import EvaluationConfig, evaluation_config
from fettle.config.checkers import KINDS
from fettle.errors import ConfigError
from fettle.evaluation.loaded_model import LoadedModel
from fettle.evaluation.results import Evaluation, Progress
from openai_servers import FaultyServer, answer
from tiny_models import tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
GREEDY = {"generation": {"max_new_tokens": 6}}


def settings(**keys: Any) -> EvaluationConfig:
    return evaluation_config(None, keys)


def texts(evaluation: Evaluation, name: str) -> list[dict[str, Any]]:
    lines = (evaluation.folder / f"results/{name}/predictions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def said(evaluation: Evaluation, name: str) -> list[list[str]]:
    return [[answer["text"] for answer in row["answers"]] for row in texts(evaluation, name)]


def summary(evaluation: Evaluation, name: str) -> dict[str, Any]:
    return next(r.summary for r in evaluation.results if r.subject.name == name)


def alone(root: Path, pristine: Path, step: int, prompt: str, tokens: int) -> str:
    """What a checkpoint that was loaded by itself says, by Transformers' own generate."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(pristine / "base").eval()
    model = peft.PeftModel.from_pretrained(model, str(root / f"run/checkpoints/checkpoint-{step}")).eval()
    tokenizer = tiny_tokenizer()
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    out = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


def learned(root: Path, evaluation: Evaluation, name: str, every: int) -> Path:
    """The same chats; of every so many the golden answer is what this checkpoint says."""
    path = root / "learned.jsonl"
    rows = [json.loads(line) for line in (root / "valid.jsonl").read_text().splitlines()]
    for i, answers in enumerate(said(evaluation, name)):
        if i % every == 0:
            rows[i]["messages"][-1]["content"] = answers[0]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_answers_are_those_of_each_checkpoint_loaded_alone(root: Path, pristine: Path) -> None:
    evaluation = run(root, "10,30", config=settings(**GREEDY))
    for step in (10, 30):
        for row in texts(evaluation, f"step_{step}")[:4]:
            expected = alone(root, pristine, step, row["prompt"][0]["content"], 6)
            assert [answer["text"] for answer in row["answers"]] == [expected]
    assert said(evaluation, "step_10") != said(evaluation, "step_30")


def test_a_checker_counts_what_is_right(root: Path) -> None:
    first = run(root, "20", config=settings(**GREEDY))
    data = learned(root, first, "step_20", every=3)
    found = run(root, "20", data=[data], config=settings(**GREEDY, checkers={"same": "exact"}))
    numbers = summary(found, "step_20")
    pairs = zip(texts(found, "step_20"), said(found, "step_20"), strict=True)
    right = [answers == [row["golden"]] for row, answers in pairs]
    assert numbers["same_pass_rate"] == pytest.approx(np.mean(right))
    assert 8 / 24 <= numbers["same_pass_rate"] < 1
    assert numbers["same_pass_rate_low"] < numbers["same_pass_rate"] < numbers["same_pass_rate_high"]
    assert summary(found, "base")["same_pass_rate"] < numbers["same_pass_rate"]
    assert [row["same_correct"] for row in texts(found, "step_20")] == [float(r) for r in right]


def test_pass_at_k_is_the_share_of_all_draws_with_a_right_answer(root: Path) -> None:
    (root / "judge.py").write_text("def check(answer, against):\n    return len(answer) % 2 == 0\n")
    config = settings(
        generation={"n": 4, "temperature": 1.5, "max_new_tokens": 4},
        checkers={"even": {"kind": "custom", "function": str(root / "judge.py:check")}},
    )
    found = run(root, "10", config=config)
    numbers = summary(found, "step_10")
    for k in (1, 2, 4):
        shares = [
            np.mean([any(len(a) % 2 == 0 for a in draw) for draw in itertools.combinations(answers, k)])
            for answers in said(found, "step_10")
        ]
        assert numbers[f"even_pass@{k}"] == pytest.approx(np.mean(shares))
    assert numbers["even_pass@1"] < numbers["even_pass@2"] < numbers["even_pass@4"]


def test_an_unchanged_evaluation_answers_from_the_cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(root, "20", config=settings(**GREEDY))
    monkeypatch.setattr(LoadedModel, "_load", lambda *_: pytest.fail("a model is loaded"))
    again = run(root, "20", config=settings(**GREEDY))
    assert texts(first, "step_20") == texts(again, "step_20")
    assert summary(again, "step_20")["answers_run"] == 0


def test_only_answers_that_are_missing_are_generated(root: Path) -> None:
    def sampled(n: int, **more: Any) -> Evaluation:
        drawn = {"n": n, "temperature": 1.0, "max_new_tokens": 5, **more}
        return run(root, "20", config=settings(generation=drawn))

    two = sampled(2)
    four = sampled(4)
    assert summary(two, "step_20")["answers_run"] == 48
    assert summary(four, "step_20")["answers_run"] == 48
    assert [a[:2] for a in said(four, "step_20")] == said(two, "step_20")
    assert summary(sampled(2, seed=7), "step_20")["answers_run"] == 48
    lines = (root / "valid.jsonl").read_text().splitlines()
    (root / "valid.jsonl").write_text("\n".join([lines[3].replace("say", "tell"), *lines]) + "\n")
    assert summary(sampled(2), "step_20")["answers_run"] == 2


def test_the_same_prompt_twice_is_answered_once(root: Path) -> None:
    lines = (root / "valid.jsonl").read_text().splitlines()
    (root / "valid.jsonl").write_text("\n".join([*lines, lines[5]]) + "\n")
    found = run(root, "20", config=settings(**GREEDY))
    assert summary(found, "step_20")["answers_run"] == 24
    assert said(found, "step_20")[-1] == said(found, "step_20")[5]


def test_an_answer_that_cannot_be_judged_is_unscored_with_the_reason(root: Path) -> None:
    (root / "judge.py").write_text(
        "def check(answer, against):\n"
        "    if against.question.startswith('say a'):\n        raise OSError('no idea')\n"
        "    return True\n"
    )
    found = run(
        root,
        "20",
        config=settings(
            **GREEDY, checkers={"mine": {"kind": "custom", "function": str(root / "judge.py:check")}}
        ),
    )
    numbers, rows = summary(found, "step_20"), texts(found, "step_20")
    hard = [row["prompt"][0]["content"].startswith("say a") for row in rows]
    assert 0 < sum(hard) < 24
    assert numbers["mine_pass_rate"] == 1.0
    assert numbers["mine_unscored"] == sum(hard)
    assert numbers["mine_unscored_reasons"] == {"OSError: no idea": sum(hard)}
    assert [row["mine_correct"] for row in rows] == [None if h else 1.0 for h in hard]


def test_answers_of_broken_weights_are_not_called_wrong(root: Path) -> None:
    folder = root / "run/checkpoints/checkpoint-20"
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({n: t * torch.nan for n, t in weights.items()}, folder / "adapter_model.safetensors")
    (folder / "manifest.json").unlink()
    numbers = summary(run(root, "20", config=settings(**GREEDY, checkers={"same": "exact"})), "step_20")
    assert numbers["same_pass_rate"] is None
    assert numbers["same_unscored_reasons"] == {"the model's logits were not finite": 24}
    assert numbers["answers_ended_not_finite"] == 24


def test_an_interrupted_evaluation_keeps_its_answers(root: Path) -> None:
    config = settings(generation={"max_new_tokens": 5}, batch_tokens=80)

    def stop(at: Progress) -> None:
        if (at.subject, at.stage) == ("step_20", "answers") and at.done > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(root, "20", config=config, on_progress=stop)
    again = run(root, "20", config=config)
    assert 0 < summary(again, "step_20")["answers_run"] < 24
    assert summary(again, "base")["answers_run"] == 0


def test_choices_are_ranked_by_their_likelihood(root: Path, pristine: Path) -> None:
    from transformers import AutoModelForCausalLM

    from fettle.data import ChatEncoder, Example
    from fettle.scoring import score

    rows = [json.loads(line) for line in (root / "valid.jsonl").read_text().splitlines()]
    words = [row["messages"][-1]["content"] for row in rows]
    for i, row in enumerate(rows):
        row["choices"] = [words[i - 1], words[i], words[i - 7] + " and so on"] if i else []
    data = root / "choices.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = settings(checkers={"mc": {"kind": "choice", "by": "likelihood"}})
    found = run(root, "20", data=[data], config=config)
    assert "answers_count" not in summary(found, "step_20")

    model: Any = AutoModelForCausalLM.from_pretrained(pristine / "base").eval()
    model = peft.PeftModel.from_pretrained(model, str(root / "run/checkpoints/checkpoint-20")).eval()
    encoder = ChatEncoder(tiny_tokenizer())
    right: dict[str, list[bool]] = {"mc": [], "mc_per_character": [], "mc_per_byte": []}
    for row in rows[1:]:
        chats = [Example([row["messages"][0], {"role": "assistant", "content": c}]) for c in row["choices"]]
        sums = -score(model, encoder.encode_all(chats).sequences).cross_entropy_sum
        lengths = np.array([len(choice) for choice in row["choices"]])
        right["mc"].append(bool(sums.argmax() == 1))
        right["mc_per_character"].append(bool((sums / lengths).argmax() == 1))
        right["mc_per_byte"].append(bool((sums / lengths).argmax() == 1))
    for name, expected in right.items():
        assert summary(found, "step_20")[f"{name}_pass_rate"] == pytest.approx(np.mean(expected))
    assert summary(found, "step_20")["mc_unscored_reasons"] == {
        "the data line lists no choices in 'choices'": 1
    }


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"checkers": {"x": "nonsense"}}, "checkers.x: kind 'nonsense' is unknown"),
        ({"checkers": {"two words": "exact"}}, "two words"),
        ({"generation": {"n": 3}}, "temperature must be above 0"),
        ({"checkers": {"exact_match": "exact"}}, "'exact_match' is measured anyway"),
        ({"pass_at": [2]}, "pass@2 cannot be told from 1"),
        ({"generation": {"max_new_tokens": 0}}, "max_new_tokens"),
    ],
)
def test_settings_that_cannot_be_are_named(keys: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        settings(**keys)


def test_a_checker_that_cannot_be_had_is_told_before_anything_is_written(root: Path) -> None:
    with pytest.raises(ConfigError, match="run_code is false"):
        run(root, config=settings(checkers={"code": "code"}))
    assert not (root / "eval_runs").exists()


def test_the_command_takes_checkers(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setenv("COLUMNS", "120")
    command = ["fettle", "eval", "run", "--checkpoints", "30", "--no-report"]

    def fettle_eval(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", [*command, *arguments])
        with pytest.raises(SystemExit) as exit:
            main()
        assert exit.value.code == 0
        return capsys.readouterr().out

    table = fettle_eval("--checker", "exact", "-n", "2", "--temperature", "0.9", "--max-new-tokens", "4")
    assert table.splitlines()[0].split() == ["exact", "exact", "@2", "EM", "CE", "samples", "run"]
    table = fettle_eval("--checker", "number", "--set", "generation.max_new_tokens=4")
    assert "number: 48 unscored: the reference" in table
    asked = ["--checker", "regex", "--set", "checkers.regex.pattern='[a-h]'", "--stop", "a", "--json"]
    printed = json.loads(fettle_eval(*asked, "--max-new-tokens", "4"))
    assert all(0 <= row["regex_pass_rate"] <= 1 for row in printed["results"])
    monkeypatch.setattr("sys.argv", ["fettle", "eval", "--help"])
    main()
    listed = " ".join(capsys.readouterr().out.split())
    assert all(kind in listed for kind in KINDS)


def test_what_a_judge_said_once_is_not_asked_again(root: Path) -> None:
    server = FaultyServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    judge = {"kind": "judge", "base_url": server.url, "model": "m", "attempts": 1}
    config = settings(**GREEDY, checkers={"judge": judge}, max_samples=6)
    # It refuses one question; what it did not say must be asked again.
    server.plan = lambda body: (401, {}, "{}") if server.requests == 3 else answer("Fine. Score: 8")
    try:
        first = summary(run(root, "20", config=config), "base")
        assert (first["judge_pass_rate"], first["judge_score"], first["judge_unscored"]) == (1.0, 0.8, 1)
        assert server.requests == 12
        again = summary(run(root, "20", config=config), "base")
        assert again["judge_unscored"] == 0
        assert server.requests == 13
        run(root, "20", config=config)
        assert server.requests == 13
        stricter = settings(**GREEDY, checkers={"judge": {**judge, "right_from": 9}}, max_samples=6)
        assert summary(run(root, "20", config=stricter), "base")["judge_pass_rate"] == 0.0
    finally:
        server.shutdown()
        server.server_close()


def test_what_a_judge_costs_is_part_of_the_cost(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = FaultyServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told = {"usage": {"prompt_tokens": 100, "completion_tokens": 10}}
    judge = {"kind": "judge", "base_url": server.url, "model": "m", "attempts": 1}
    priced = {**judge, "prompt_price": 2.0, "completion_price": 5.0}
    server.plan = lambda body: answer("Score: 8", **told)
    try:
        config = settings(**GREEDY, checkers={"teacher": priced}, max_samples=6, price_per_hour=3600.0)
        found = run(root, "20", config=config)
        metadata = json.loads((found.folder / "metadata.json").read_text())
        asked = metadata["judges"]["teacher"]
        counts = {"requests": 12, "prompt_tokens": 1200, "completion_tokens": 120, "retries": 0}
        assert {key: asked[key] for key in counts} == counts
        assert asked["cost"] == pytest.approx((1200 * 2 + 120 * 5) / 1e6)
        assert metadata["cost"] == pytest.approx(metadata["seconds"] + asked["cost"])
        print_evaluation(found, as_json=False)
        assert "asked    teacher: 12 requests, 1,200 + 120 tokens\n" in capsys.readouterr().out
        # What was said once is not asked again, and costs nothing, whatever the price.
        config = settings(**GREEDY, checkers={"teacher": {**judge, "attempts": 2}}, max_samples=6)
        again = run(root, "20", config=config)
        assert (again.metadata["judges"]["teacher"]["requests"], server.requests) == (0, 12)
        print_evaluation(again, as_json=False)
        assert "asked    teacher: nothing\n" in capsys.readouterr().out
        unpriced = settings(**GREEDY, checkers={"teacher": judge}, max_samples=9, price_per_hour=3600.0)
        assert run(root, "20", config=unpriced).metadata["cost"] is None
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_a_kill_midway_loses_no_answer_that_was_kept(root: Path) -> None:
    asked = ["--checkpoints", "20", "--max-new-tokens", "200", "--batch-tokens", "300", "--json"]
    command = [sys.executable, "-m", "fettle", "eval", "run", *asked, "--no-report", "--quiet"]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL)
    cache = root / "cache/scores.sqlite"

    def kept() -> int:
        if not cache.exists():
            return 0
        with contextlib.closing(sqlite3.connect(cache)) as db, contextlib.suppress(sqlite3.Error):
            return int(db.execute("SELECT count(*) FROM scores").fetchone()[0])
        return 0

    while kept() < 24 + 5 and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    (folder,) = (root / "eval_runs").iterdir()
    assert json.loads((folder / "metadata.json").read_text())["state"] == "running"
    before = kept()
    assert 29 <= before < 96
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    printed = json.loads(done.stdout)
    assert Path(printed["folder"]).name == folder.name
    ran = sum(row["samples_run"] + row["answers_run"] for row in printed["results"])
    assert ran == 96 - before
