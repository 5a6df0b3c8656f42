"""Fixed prompts over a run: which, when, what is written down, and that training does not notice."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fettle.config import PatternsConfig, PredictionsConfig, load_config
from fettle.data import ChatEncoder, Example, PatternClassifier, choose_indices
from fettle.errors import ConfigError
from fettle.runs import RunReader
from fettle.scoring import Continuation, generate
from fettle.train.answer_format import AnswerFormat
from fettle.train.evaluation import FixedEvalSet
from fettle.train.held_out import encode_held_out
from fettle.train.job import train
from fettle.train.pipeline import DoneStep
from fettle.train.predictions import Predictions
from tiny_models import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")

LONG_CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 1 plus 2"},
    {"role": "assistant", "content": "The answer is 3"},
    {"role": "user", "content": "calculate 3 plus 4"},
    {"role": "assistant", "content": "7 is the number"},
]


def chat(question: str, answer: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def held_out(chats: list[list[dict[str, Any]]], **settings: Any) -> FixedEvalSet:
    examples = [Example(messages, line=i + 1) for i, messages in enumerate(chats)]
    encoder = ChatEncoder(tiny_tokenizer(), **settings)
    rules = PatternsConfig().rules
    return encode_held_out(encoder, examples, Path("valid.jsonl"), PatternClassifier(rules))[0]


def predictions(eval_set: FixedEvalSet, *, seed: int = 42, **settings: Any) -> Predictions:
    return Predictions(eval_set, tiny_tokenizer(), PredictionsConfig(**settings), seed=seed)


def saying(*texts: str, ended: bool = True) -> Any:
    """A model that says these."""
    tokenizer = tiny_tokenizer()
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    end = [tokenizer.eos_token_id] if ended else []
    return lambda prompts, **settings: [Continuation([*tokens, *end], ended, 0.25) for tokens in ids]


# -- prompts --------------------------------------------------------------------------------


def test_the_prompt_is_the_conversation_before_the_last_answer_as_the_template_has_it() -> None:
    [prompt] = predictions(held_out([LONG_CHAT])).prompts
    wanted = tiny_tokenizer().apply_chat_template(
        LONG_CHAT[:-1], add_generation_prompt=True, return_dict=True
    )
    assert prompt.tokens == wanted["input_ids"]
    assert prompt.messages == LONG_CHAT[:-1]
    assert tiny_tokenizer().decode(prompt.truth_tokens) == "7 is the number<|im_end|>"


def test_an_answer_that_is_not_learned_is_not_asked_for() -> None:
    unlearned = [*LONG_CHAT[:-1], {**LONG_CHAT[-1], "weight": 0}]
    [prompt] = predictions(held_out([unlearned])).prompts
    assert prompt.messages == LONG_CHAT[:2]
    assert tiny_tokenizer().decode(prompt.truth_tokens) == "The answer is 3<|im_end|>"


def test_a_prompt_longer_than_the_model_learns_from_is_cut_at_its_beginning() -> None:
    [prompt] = predictions(held_out([LONG_CHAT], max_seq_length=20)).prompts
    [whole] = predictions(held_out([LONG_CHAT])).prompts
    assert len(prompt.tokens) + len(prompt.truth_tokens) == 20
    assert prompt.tokens == whole.tokens[-len(prompt.tokens) :]


def test_five_prompts_by_default_chosen_with_the_seed() -> None:
    eval_set = held_out([chat(f"say {i}", str(i)) for i in range(40)])
    chosen = [p.example.line - 1 for p in predictions(eval_set).prompts]
    assert chosen == choose_indices(40, 5, 42)
    assert [p.example.line - 1 for p in predictions(eval_set).prompts] == chosen
    assert [p.example.line - 1 for p in predictions(eval_set, seed=7).prompts] != chosen
    assert len(predictions(eval_set, samples=100).prompts) == 40
    assert predictions(eval_set, samples=0).prompts == []


def test_the_id_of_a_prompt_does_not_depend_on_its_answer() -> None:
    a, b, c = predictions(held_out([chat("say 1", "1"), chat("say 1", "2"), chat("say 2", "1")])).prompts
    assert a.id == b.id != c.id


# -- rows ----------------------------------------------------------------------------------


def test_a_row_holds_what_was_asked_said_and_measured() -> None:
    ours = predictions(held_out([LONG_CHAT]))
    [row] = ours.rows(saying(" 7 is THE number\n"))
    assert row == {
        "sample_index": 0,
        "source_line": 1,
        "prompt_id": ours.prompts[0].id,
        "pattern": "math",
        "prompt": LONG_CHAT[:-1],
        "ground_truth": "7 is the number",
        "prediction": " 7 is THE number\n",
        "ended": True,
        "prompt_tokens": len(ours.prompts[0].tokens),
        "completion_tokens": len(tiny_tokenizer()(" 7 is THE number\n")["input_ids"]) + 1,
        "latency_ms": 250.0,
        "exact_match": True,
        "character_error_rate": 3 / 15,
        "length_ratio": 1.0,
        "word_overlap": 1.0,
        "validation_kind": None,
        "validation_pass": None,
        "validation_errors": None,
    }
    [wrong] = ours.rows(saying("8 is", ended=False))
    assert (wrong["exact_match"], wrong["ended"], wrong["word_overlap"]) == (False, False, 0.5)
    assert wrong["character_error_rate"] == 12 / 15
    assert wrong["length_ratio"] == 4 / 15


def test_rows_are_what_the_model_says() -> None:
    tokenizer = tiny_tokenizer()
    model = tiny_model(vocab_size=len(tokenizer)).train()
    ours = predictions(held_out([chat(f"say {i}", str(i)) for i in range(8)]), max_new_tokens=7)
    rows = ours.rows(lambda prompts, **limits: generate(model, tokenizer, prompts, **limits))
    model.eval()
    for row, prompt in zip(rows, ours.prompts, strict=True):
        ids = torch.tensor([prompt.tokens])
        mask = torch.ones_like(ids)
        stops = [tokenizer.eos_token_id, model.generation_config.eos_token_id]
        said = model.generate(
            ids, attention_mask=mask, max_new_tokens=7, do_sample=False, eos_token_id=stops, pad_token_id=0
        )[0, ids.shape[1] :]
        assert row["prediction"] == tokenizer.decode(said, skip_special_tokens=True)
        assert row["completion_tokens"] == len(said)


# -- form of the answer -------------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize(
    ("settings", "text", "kind", "errors"),
    [
        ({}, "anything", None, None),
        ({"json_schema": {}}, ' {"a": [1]} ', "json", []),
        ({"json_schema": {}}, "{'a': 1}", "json", ["no JSON"]),
        ({"json_schema": {}}, '{"a": NaN}', "json", ["no JSON"]),
        ({"json_schema": SCHEMA}, '{"n": 3}', "json_schema", []),
        ({"json_schema": SCHEMA}, '{"n": "3"}', "json_schema", ["$.n: '3' is not of type 'integer'"]),
        ({"json_schema": SCHEMA}, "3 is n", "json_schema", ["no JSON"]),
        ({"regex": r"^\d+$"}, "31", "regex", []),
        ({"regex": r"^\d+$"}, "x31", "regex", [r"no match of ^\d+$"]),
        (
            {"regex": "q", "json_schema": SCHEMA},
            "{}",
            "json_schema+regex",
            ["$: 'n' is a required", "no match"],
        ),
    ],
)
def test_the_form_of_an_answer(
    settings: dict[str, Any], text: str, kind: str | None, errors: list[str] | None
) -> None:
    found = AnswerFormat(PredictionsConfig(**settings)).check(text)
    assert found["validation_kind"] == kind
    assert found["validation_pass"] is (None if errors is None else not errors)
    if errors is None:
        assert found["validation_errors"] is None
    else:
        assert len(found["validation_errors"]) == len(errors)
        assert all(got.startswith(e) for got, e in zip(found["validation_errors"], errors, strict=True))


def test_a_schema_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"predictions\.json_schema: is no JSON schema.*nonsense"):
        AnswerFormat(PredictionsConfig(json_schema={"type": "nonsense"}))


# -- a whole run -----------------------------------------------------------------------------------

YAML = """\
model: ./base
data: {train: train.jsonl, fixed_eval: valid.jsonl}
lora: {rank: 4, alpha: 8, dropout: 0.1}
training:
  epochs: 2
  batch_size: 4
  learning_rate: 1.0e-2
  max_seq_length: 128
  checkpoint_interval_steps: 4
  eval_interval_steps: 4
  early_stopping_patience: 0
predictions: {samples: 3, max_new_tokens: 6}
"""
STEPS = 12


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    tokenizer = tiny_tokenizer()
    tiny_model("qwen3", vocab_size=len(tokenizer), hidden=32, layers=1).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    rng = random.Random(0)
    for name, count in (("train", 24), ("valid", 12)):
        words = ["".join(rng.choices("abcdefgh", k=rng.randint(2, 9))) for _ in range(count)]
        rows = [json.dumps({"messages": chat(f"say {word}", word)}) + "\n" for word in words]
        (folder / f"{name}.jsonl").write_text("".join(rows))
    (folder / "train.yaml").write_text(YAML)
    return folder


def run(project: Path, out: Path, *overrides: str, **more: Any) -> RunReader:
    train(load_config(project / "train.yaml", overrides), out=out, log_level="CRITICAL", **more)
    return RunReader(out)


@pytest.fixture(scope="module")
def reference(project: Path) -> RunReader:
    return run(project, project / "reference")


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: v for key, v in row.items() if key not in ("timestamp", "latency_ms")} for row in rows]


def test_predictions_change_no_bit_of_the_training(
    project: Path, reference: RunReader, tmp_path: Path
) -> None:
    silent = run(project, tmp_path / "run", "predictions.samples=0")
    assert silent.predictions() == []
    for name in ("loss", "grad_norm", "tokens"):
        ours, theirs = (r.columns("train")[name] for r in (reference, silent))
        np.testing.assert_array_equal(ours, theirs)
    assert [(e.step, e.cross_entropy) for e in reference.evals()] == [
        (e.step, e.cross_entropy) for e in silent.evals()
    ]
    last = Path("checkpoints") / f"checkpoint-{STEPS}" / "adapter_model.safetensors"
    ours, theirs = (load_file(r.path / last) for r in (reference, silent))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    states = [torch.load(r.path / last.with_name("rng_state.pth")) for r in (reference, silent)]
    assert torch.equal(states[0]["torch"], states[1]["torch"])


def test_the_same_prompts_at_every_eval(reference: RunReader) -> None:
    rows = reference.predictions()
    evals = [e.step for e in reference.evals()]
    assert evals == [4, 6, 8, 12]  # 6 and 12 end epochs
    assert [row["step"] for row in rows] == [step for step in evals for _ in range(3)]
    ids = [row["prompt_id"] for row in rows]
    assert ids == ids[:3] * 4
    assert len(set(ids[:3])) == 3
    assert rows[0]["epoch"] == pytest.approx(4 / 6)
    assert len({row["prediction"] for row in rows if row["sample_index"] == 0}) > 1  # the model learns


@pytest.mark.parametrize(
    ("every", "steps"), [("epoch", [6, 12]), ("5", [5, 10, 12]), ("eval", [4, 6, 8, 12]), ("100", [12])]
)
def test_when_predictions_are_made(project: Path, tmp_path: Path, every: str, steps: list[int]) -> None:
    made = run(project, tmp_path / "run", f"predictions.every={every}", "predictions.max_new_tokens=1")
    assert [row["step"] for row in made.predictions()] == [step for step in steps for _ in range(3)]


def test_a_run_that_stops_early_ends_with_predictions(project: Path, tmp_path: Path) -> None:
    settings = ("training.early_stopping_patience=1", "training.early_stopping_threshold=100.0")
    made = run(project, tmp_path / "run", *settings, "predictions.every=100")
    assert made.state() == "early_stopped"
    assert {row["step"] for row in made.predictions()} == {6}


def test_a_run_that_was_killed_predicts_the_same(project: Path, reference: RunReader, tmp_path: Path) -> None:
    def kill(done: DoneStep) -> None:
        if done.step == 7:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            run(project, tmp_path / "run", on_step=kill)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert {row["step"] for row in RunReader(tmp_path / "run").predictions()} == {4, 6}
    resumed = run(project, tmp_path / "run")
    assert without_times(resumed.predictions()) == without_times(reference.predictions())


def test_a_disk_that_refuses_predictions_stops_nothing(project: Path, tmp_path: Path) -> None:
    def obstruct(done: DoneStep) -> None:
        if done.step == 1:
            (tmp_path / "run" / "predictions").write_text("a file where the folder should be")

    made = run(project, tmp_path / "run", on_step=obstruct)
    assert made.state() == "completed"
    assert "The predictions of step 4 could not be written" in (made.path / "logs" / "train.log").read_text()


def test_the_training_set_is_counted_by_kind_and_length(reference: RunReader) -> None:
    counted = (reference.metadata() or {})["patterns"]
    assert counted["length_bins"] == [100, 300, 500, 1000, 2000]
    assert counted["train"] == [{"pattern": "other", "length": "0-100", "seen": 24}]
    [cell] = reference.records("fixed_eval")[0]["patterns"]
    assert (cell["pattern"], cell["length"], cell["seen"]) == ("other", "0-100", 12)
    assert cell["cross_entropy"] == pytest.approx(reference.evals()[0].cross_entropy)
