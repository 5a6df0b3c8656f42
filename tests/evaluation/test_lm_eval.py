"""Tasks of lm-evaluation-harness through our engine give the numbers of the harness's own model."""

from __future__ import annotations

import copy
import json
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch

import fettle
from checkpoints_on_disk import save_adapter, save_base
from fettle import score
from fettle.cli import cli
from fettle.config import EvaluationConfig
from fettle.errors import ConfigError, DataError, ModelError
from fettle.evaluation.cache import ScoreCache
from fettle.evaluation.cached_model import CachedModel
from fettle.evaluation.lm_eval_tasks import evaluate_subject, evaluate_tasks
from fettle.evaluation.subject import Subject
from forked import forked
from lm_eval_world import CONTEXT, TASKS, trained_model, write_tasks
from tiny_models import tiny_model, tiny_tokenizer

lm_eval: Any = pytest.importorskip("lm_eval")
lm_eval_tasks: Any = pytest.importorskip("lm_eval.tasks")
NO_BOOTSTRAP = {"bootstrap_iters": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def model() -> Any:
    return trained_model()


@pytest.fixture(autouse=True)
def described(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often the harness asks pip and others what is on the machine, instead of what they say."""
    asked: list[str] = []
    monkeypatch.setattr(
        "torch.utils.collect_env.get_pretty_env_info", lambda: asked.append("") or "a machine"
    )
    return asked


def theirs(model: Any, tokenizer: Any, folder: Path, tasks: Any = TASKS, **options: Any) -> dict[str, Any]:
    from lm_eval.models.huggingface import HFLM

    manager = lm_eval_tasks.TaskManager(include_path=str(folder), include_defaults=False)
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4)
    return lm_eval.simple_evaluate(lm, tasks=list(tasks), task_manager=manager, **NO_BOOTSTRAP, **options)


def ours(model: Any, tokenizer: Any, folder: Path, tasks: Any = TASKS, **options: Any) -> dict[str, Any]:
    return evaluate_tasks(model, tokenizer, tasks, include_path=folder, **NO_BOOTSTRAP, **options)


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Metrics and every single answer; what is not a float must be identical."""
    assert found["results"].keys() == expected["results"].keys()
    for task, metrics in expected["results"].items():
        for name, value in metrics.items():
            exact = name.startswith(("acc", "exact")) or not isinstance(value, float)
            wanted = value if exact else pytest.approx(value, rel=1e-4)
            assert found["results"][task][name] == wanted, (task, name)
        samples = zip(found["samples"][task], expected["samples"][task], strict=True)
        for own, their in samples:
            assert own["arguments"] == their["arguments"]
            assert_same_answers(own["resps"], their["resps"])


def assert_same_answers(found: Any, expected: Any) -> None:
    if isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for own, their in zip(found, expected, strict=True):
            assert_same_answers(own, their)
    else:
        assert found == (
            pytest.approx(expected, rel=1e-4, abs=1e-4) if isinstance(expected, float) else expected
        )


@pytest.mark.parametrize("options", [{}, {"num_fewshot": 2}], ids=["zero-shot", "few-shot"])
def test_every_kind_of_request_gives_the_harness_s_own_numbers(
    model: Any, folder: Path, options: dict[str, Any]
) -> None:
    tokenizer = tiny_tokenizer()
    expected = theirs(model, tokenizer, folder, **options)
    assert_same(ours(model, tokenizer, folder, **options), expected)
    if not options:
        greedy = {r[1] for s in expected["samples"]["tiny_next"] for [r] in s["resps"]}
        assert greedy == {True, False}, "the comparison would show nothing"
        assert 0 < expected["results"]["tiny_answer"]["exact_match,number"] < 1


def test_an_adapter_and_a_chat_template(folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        plain = tiny_model("llama", vocab_size=len(tokenizer), max_position_embeddings=CONTEXT)
        model: Any = peft.get_peft_model(plain, config).eval()
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    options = {"apply_chat_template": True, "num_fewshot": 1, "fewshot_as_multiturn": True}
    found = ours(model, tokenizer, folder, **options)
    assert_same(found, theirs(model, tokenizer, folder, **options))
    with model.disable_adapter():
        base = ours(model, tokenizer, folder, ["tiny_text"], **options)
    assert base["results"]["tiny_text"] != found["results"]["tiny_text"]


def instances(kind: str, *arguments: tuple[Any, ...]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, argument, i) for i, argument in enumerate(arguments)]


def both(model: Any, **options: Any) -> tuple[Any, Any]:
    """Our model of the harness and its own, over the same weights."""
    from lm_eval.models.huggingface import HFLM

    from fettle.evaluation.lm_eval_model import FettleLM

    own = FettleLM(model, tokenizer=tiny_tokenizer(), progress=False, **options)
    return own, HFLM(pretrained=model, tokenizer=tiny_tokenizer(), **options)


def test_contexts_and_lengths_at_their_limits(model: Any) -> None:
    own, their = both(model, max_length=20)
    words = " the answer to a question" * 8
    pairs = [
        ("", " the"),
        ("", words[:60]),
        ("a ", "question"),
        (words, " is"),
        (words, words[:60]),
        ("x", "🙂"),
    ]
    found = own.loglikelihood(instances("loglikelihood", *pairs))
    assert_same_answers(found, their.loglikelihood(instances("loglikelihood", *pairs)))
    texts = instances("loglikelihood_rolling", (words,), ("",), ("a",))
    assert_same_answers(own.loglikelihood_rolling(texts), their.loglikelihood_rolling(texts))
    assert own.loglikelihood_rolling(texts)[1] == 0.0
    # The whole context of the model is used, and the last token beyond it is predicted.
    assert len(own._sequence([1] * 50, [2, 3])) == 21
    with pytest.raises(DataError, match=r"a continuation of .* tokens cannot be scored.*1 to 20"):
        own.loglikelihood(instances("loglikelihood", ("a", words)))


def test_a_request_that_is_asked_twice_runs_once(model: Any, folder: Path) -> None:
    asked: list[int] = []

    def scorer(sequences: Any) -> Any:
        asked.append(len(sequences))
        return score(model, sequences)

    found = ours(model, tiny_tokenizer(), folder, ["tiny_choice"], scorer=scorer)
    # Of 5 choices alone, for the mutual information, 4 are the same for many documents.
    requests = sum(len(sample["resps"]) + 5 for sample in found["samples"]["tiny_choice"])
    assert sum(asked) < 0.75 * requests
    assert_same(found, theirs(model, tiny_tokenizer(), folder, ["tiny_choice"]))


def test_what_fettle_does_not_sample_is_left_to_transformers(model: Any) -> None:
    own, their = both(model)
    contexts = ["2 plus 3", "the answer", "of it 7"]
    how = {"until": [], "max_gen_toks": 30}
    beams = instances("generate_until", *((c, {**how, "num_beams": 3}) for c in contexts))
    assert own.generate_until(beams) == their.generate_until(beams)
    greedy = instances("generate_until", *((c, how) for c in contexts))
    plain = own.generate_until(greedy)
    model.generation_config.repetition_penalty = 3.0
    try:
        assert own.generate_until(greedy) == their.generate_until(greedy) != plain
    finally:
        model.generation_config.repetition_penalty = 1.0
    assert own.generate_until(greedy) == plain


def test_every_repetition_of_a_prompt_is_a_draw_of_its_own(model: Any) -> None:
    own, _ = both(model)
    how = {"until": [], "do_sample": True, "temperature": 2.0, "top_p": 0.9, "max_gen_toks": 12}
    requests = instances("generate_until", *[("the answer", how)] * 6, ("a question", how))
    torch.manual_seed(1)
    first, again = own.generate_until(requests), own.generate_until(requests)
    assert len(set(first)) == 7
    assert again == first
    torch.manual_seed(2)
    assert own.generate_until(requests) != first


def test_an_adapter_by_its_folder(model: Any, tmp_path: Path) -> None:
    from lm_eval.models.huggingface import HFLM

    from fettle.evaluation.lm_eval_model import FettleLM

    base, adapter = tmp_path / "base", tmp_path / "adapter"
    model.save_pretrained(base)
    tiny_tokenizer().save_pretrained(base)
    save_adapter(adapter, base, seed=3)
    requests = instances("loglikelihood", ("2 plus 3", " is 5."), ("", "the"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        their = HFLM(pretrained=str(base), peft=str(adapter), device="cpu")
    expected = their.loglikelihood(requests)
    for arguments in ({"pretrained": str(adapter)}, {"pretrained": str(base), "peft": str(adapter)}):
        own = FettleLM.create_from_arg_obj(
            {**arguments, "batch_tokens": 64, "device": "cpu"}, {"batch_size": 1}
        )
        assert_same_answers(own.loglikelihood(requests), expected)
    with pytest.raises(ConfigError, match="softmax_dtype has no say"):
        FettleLM(str(base), softmax_dtype="float32")


def test_checkpoints_one_after_another_from_the_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    plain = save_base(base)
    save_adapter(tmp_path / "adapter", base, seed=3)
    subjects = [Subject("base", 0, str(base)), Subject("step_1", 1, str(base), tmp_path / "adapter")]
    tasks = ["tiny_choice", "tiny_text", "tiny_answer", "tiny_drawn"]
    (folder / "tiny_drawn.yaml").write_text(
        (folder / "tiny_answer.yaml")
        .read_text()
        .replace("do_sample: false", "do_sample: true\n  temperature: 0.8")
        .replace("task: tiny_answer", "task: tiny_drawn\nrepeats: 2")
    )
    options: dict[str, Any] = {"include_path": folder, **NO_BOOTSTRAP}

    def evaluated() -> tuple[list[dict[str, Any]], CachedModel]:
        cached = CachedModel(ScoreCache(tmp_path / "cache.sqlite"), EvaluationConfig(device="cpu"))
        return [evaluate_subject(cached, subject, tasks, **options) for subject in subjects], cached

    def said(found: dict[str, Any], task: str) -> list[Any]:
        return [sample["resps"] for sample in found["samples"][task]]

    first, cached = evaluated()
    assert cached.cache.hits == 0
    assert_same(first[0], ours(plain, tiny_tokenizer(), folder, tasks))
    assert said(first[0], "tiny_drawn") == said(ours(plain, tiny_tokenizer(), folder, tasks), "tiny_drawn")
    assert first[1]["results"]["tiny_text"] != first[0]["results"]["tiny_text"]
    for task in ("tiny_answer", "tiny_drawn"):
        assert said(first[1], task) != said(first[0], task)
    # Neither scores nor texts are run again.
    for place in ("work.score", "work.sample_batches", "lm_eval_model.score", "lm_eval_model.sample_batches"):
        monkeypatch.setattr(f"fettle.evaluation.{place}", None)
    again, cached = evaluated()
    assert cached.cache.misses == 0
    for own, before in zip(again, first, strict=True):
        assert_same(own, before)
        assert [said(own, task) for task in tasks] == [said(before, task) for task in tasks]


def test_modes_and_random_state_are_kept(model: Any, folder: Path) -> None:
    model, tokenizer = copy.deepcopy(model), tiny_tokenizer()
    tokenizer.pad_token = None
    model.train()
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    evaluate_tasks(model, tokenizer, ["tiny_text"], include_path=folder, limit=3)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert (model.training, tokenizer.pad_token) == (True, None)
    assert after == before


def test_what_cannot_be_evaluated_is_named(model: Any, folder: Path, tmp_path: Path) -> None:
    model, tokenizer = copy.deepcopy(model), tiny_tokenizer()
    with pytest.raises(ConfigError, match="is no folder"):
        ours(model, tokenizer, tmp_path / "nowhere", ["tiny_text"])
    text = (folder / "tiny_next.yaml").read_text().replace("documents.jsonl", "gone.jsonl")
    (tmp_path / "gone.yaml").write_text(text.replace("tiny_next", "gone"))
    with pytest.raises(DataError, match="tasks gone: the documents cannot be read"):
        ours(model, tokenizer, tmp_path, ["gone"])
    torch.nn.init.constant_(model.model.layers[0].mlp.down_proj.weight, float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        ours(model, tokenizer, folder, ["tiny_next"])
    with pytest.raises(ModelError, match="not finite"):
        ours(model, tokenizer, folder, ["tiny_answer"])


@pytest.mark.slow
def test_the_harness_s_command_knows_the_model(folder: Path, tmp_path: Path) -> None:
    trained_model().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    arguments = ["--model", "fettle", "--model_args", f"pretrained={tmp_path / 'model'}"]
    arguments += ["--tasks", "tiny_next", "--include_path", str(folder)]
    arguments += ["--output_path", str(tmp_path / "out")]
    command = [sys.executable, "-m", "fettle.evaluation.lm_eval_tasks", "run", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr
    [file] = (tmp_path / "out").rglob("results_*.json")
    found = json.loads(file.read_text())["results"]["tiny_next"]
    expected = ours(trained_model(), tiny_tokenizer(), folder, ["tiny_next"])["results"]["tiny_next"]
    assert found["acc,none"] == expected["acc,none"]
    assert found["perplexity,none"] == pytest.approx(expected["perplexity,none"], rel=1e-6)


@pytest.mark.slow
def test_an_unknown_task_is_named(model: Any, folder: Path) -> None:
    with pytest.raises(ConfigError, match="'tiny_txt' is unknown"):
        ours(model, tiny_tokenizer(), folder, ["tiny_txt"])


def test_tasks_stand_beside_the_chats_of_an_evaluation(
    folder: Path, root: Path, described: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    tasks = {"names": ["tiny_choice", "tiny_text"], "include_path": str(folder), "limit": 6}
    asked = {"tasks": tasks, "max_samples": 5}
    found = fettle.evaluate("run", checkpoints="10,30", config=asked, out=root / "out", report=False)
    rows = found.rows()
    names = ["base", "step_10", "step_30"]
    assert [row["name"] for row in rows if row["data"] == "valid.jsonl"] == names
    for name in names:
        raw = json.loads((found.folder / f"results/{name}/tasks.json").read_text())["results"]
        row = next(row for row in rows if (row["name"], row["data"]) == (name, "tiny_choice"))
        assert row["acc"] == raw["tiny_choice"]["acc,none"]
        assert row["acc_stderr"] == raw["tiny_choice"]["acc_stderr,none"]
    assert "lm_eval: " in (found.folder / "logs/step_10.log").read_text()
    assert len(described) == 1


def test_chats_are_not_needed_where_there_are_tasks(
    folder: Path, pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ["eval", str(pristine / "base"), "--tasks", "tiny_choice", "--include-path", str(folder)]
    asked += ["--limit", "4", "--json", "--no-report"]

    def printed() -> None:
        # The harness writes past `sys.stderr`, and so do the programs that it starts.
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY), number)
        sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115 - until the process ends
        cli.main(asked)

    with pytest.raises(SystemExit) as ended:
        forked(printed)
    assert ended.value.code == 0
    found = json.loads((tmp_path / "out").read_text())
    assert [row["data"] for row in found["results"]] == ["tiny_choice"]
    assert (tmp_path / "err").read_text() == ""
