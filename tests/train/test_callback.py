"""FettleCallback inside real trainers of Transformers and TRL."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = [
    # TRL's SFTConfig sets an argument, and PEFT reads a property, that Transformers renamed.
    pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
transformers: Any = pytest.importorskip("transformers")

from fettle import FettleCallback, Sequence, open_run, score  # noqa: E402
from fettle.config import AlertsConfig  # noqa: E402
from fettle.decide.alerts import replayed  # noqa: E402
from fettle.errors import ConfigError, DataError, ModelError  # noqa: E402
from fettle.runs import LogFollower  # noqa: E402
from train.sums import FEW  # noqa: E402

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}<|end|>{% endgeneration %}"
    "{% else %}{{ m['content'] }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
COLOURS = ["red", "green", "blue", "grey", "pink", "gold"]
THINGS = ["sky", "sea", "rose", "grass", "stone", "sun", "sand", "coal"]


def chats(count: int, offset: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"colour of {THINGS[i % 8]} {i}"},
                {"role": "assistant", "content": f"it is {COLOURS[i % 6]}" + " indeed" * (i % 3)},
            ]
        }
        for i in range(offset, offset + count)
    ]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    texts = [m["content"] for chat in chats(48) for m in chat["messages"]]
    tokenizer.train_from_iterator(texts, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>", chat_template=TEMPLATE
    )


def tiny_model(tokenizer: Any, **changes: Any) -> Any:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 128,
        "tie_word_embeddings": True, "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id, "attention_dropout": 0.1,
    }  # fmt: skip
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**{**settings, **changes}))


@pytest.fixture
def valid(tmp_path: Path) -> Path:
    path = tmp_path / "valid.jsonl"
    path.write_text("".join(json.dumps(chat) + "\n" for chat in chats(12, offset=100)))
    return path


def encoded(tokenizer: Any, count: int) -> list[dict[str, list[int]]]:
    rows = []
    for chat in chats(count):
        out = tokenizer.apply_chat_template(
            chat["messages"], return_dict=True, return_assistant_tokens_mask=True
        )
        labels = [t if m else -100 for t, m in zip(out["input_ids"], out["assistant_masks"], strict=True)]
        rows.append({"input_ids": out["input_ids"], "labels": labels})
    return rows


class Rows(torch.utils.data.Dataset):  # type: ignore[type-arg]
    def __init__(self, rows: list[dict[str, list[int]]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return self.rows[index]


class PaddedRows:
    """A collator that pads, and keeps what it made."""

    def __init__(self, pad: int) -> None:
        self.pad = pad
        self.batches: list[dict[str, torch.Tensor]] = []

    def __call__(self, rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        width = max(len(row["input_ids"]) for row in rows)

        def padded(key: str, value: int) -> torch.Tensor:
            return torch.tensor([row[key] + [value] * (width - len(row[key])) for row in rows])

        batch = {"input_ids": padded("input_ids", self.pad), "labels": padded("labels", -100)}
        batch["attention_mask"] = (batch["input_ids"] != self.pad).long()
        self.batches.append({key: value.clone() for key, value in batch.items()})
        return batch


def hf_trainer(
    tmp_path: Path,
    tokenizer: Any,
    *,
    kind: Any = transformers.Trainer,
    model: Any = None,
    rows: Any = None,
    **changes: Any,
) -> Any:
    settings: dict[str, Any] = {
        "output_dir": str(tmp_path / "out"),
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_steps": 6,
        "learning_rate": 3e-3,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "seed": 1,
        "logging_steps": 1,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return kind(
        model=tiny_model(tokenizer) if model is None else model,
        args=transformers.TrainingArguments(**{**settings, **changes}),
        train_dataset=Rows(encoded(tokenizer, 16)) if rows is None else rows,
        data_collator=PaddedRows(tokenizer.pad_token_id),
        processing_class=tokenizer,
    )


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_monitoring_changes_no_bit_of_the_training(tmp_path: Path, tokenizer: Any, valid: Path) -> None:
    plain = hf_trainer(tmp_path / "plain", tokenizer)
    plain.train()
    watched = hf_trainer(tmp_path / "watched", tokenizer)
    watched.add_callback(
        FettleCallback(valid, eval_interval_steps=2, layer_interval_steps=2, predictions=FEW)
    )
    watched.train()
    assert len(open_run(tmp_path / "watched" / "out" / "fettle").evals()) == 3
    assert len(open_run(tmp_path / "watched" / "out" / "fettle").layers()) == 3
    mine, theirs = weights(watched.model), weights(plain.model)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert not watched.model._forward_hooks


def lora_model(tokenizer: Any, **changes: Any) -> Any:
    """Begins with B and A that are not zero, so that movement needs to know them."""
    peft: Any = pytest.importorskip("peft")
    settings = {"r": 2, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": "pissa", **changes}
    return peft.get_peft_model(tiny_model(tokenizer), peft.LoraConfig(task_type="CAUSAL_LM", **settings))


def dense(model: Any) -> dict[str, torch.Tensor]:
    return {
        name: (module.get_base_layer().weight + module.get_delta_weight("default")).detach().double()
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    }


def test_layers_move_from_the_start_of_the_run_also_after_a_resume(tmp_path: Path, tokenizer: Any) -> None:
    def trained(folder: str, resume: str | None = None) -> Any:
        model = lora_model(tokenizer)
        begun = dense(model)
        trainer = hf_trainer(tmp_path / folder, tokenizer, model=model, save_strategy="steps", save_steps=3)
        trainer.add_callback(FettleCallback(layer_interval_steps=2))
        trainer.train(resume_from_checkpoint=resume)
        return begun, dense(model), open_run(tmp_path / folder / "out" / "fettle").layers()

    begun, ended, whole = trained("whole")
    assert [(a.step, a.since_step, a.method) for a in whole] == [
        (2, 0, "lora"),
        (4, 0, "lora"),
        (6, 0, "lora"),
    ]
    for group in whole[-1].groups:
        word = {"qkv": "q_proj", "mlp": "down_proj"}[group.group]
        (name,) = [n for n in begun if f"layers.{group.layer}." in n and n.endswith(word)]
        assert group.movement == pytest.approx(float((ended[name] - begun[name]).norm()), rel=1e-3)
        assert group.weight_norm == pytest.approx(float(begun[name].norm()), rel=1e-5)
    trained("cut")
    _, _, cut = trained("cut", resume=str(tmp_path / "cut" / "out" / "checkpoint-3"))
    assert [(a.step, a.groups) for a in cut] == [(a.step, a.groups) for a in whole]


def test_gradient_norms_of_layers_add_up_to_that_of_the_step(tmp_path: Path, tokenizer: Any) -> None:
    trainer = hf_trainer(
        tmp_path, tokenizer, model=lora_model(tokenizer), max_steps=2, max_grad_norm=1e-3, save_strategy="no"
    )
    trainer.add_callback(FettleCallback(layer_interval_steps=1))
    trainer.train()
    run = open_run(tmp_path / "out" / "fettle")
    for activity, row in zip(run.layers(), run.records("train"), strict=True):
        total = sum(g.grad_norm**2 for g in activity.groups) ** 0.5
        assert total == pytest.approx(row["grad_norm"], rel=1e-5)
        assert total > 1e-3


def test_a_checkpoint_that_says_nothing_of_the_start_is_told(tmp_path: Path, tokenizer: Any) -> None:
    settings: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2}
    hf_trainer(tmp_path, tokenizer, max_steps=2, **settings).train()
    trainer = hf_trainer(tmp_path, tokenizer, max_steps=4, **settings)
    trainer.add_callback(FettleCallback())
    trainer.train(resume_from_checkpoint=True)
    run = open_run(tmp_path / "out" / "fettle")
    assert [(a.step, a.since_step) for a in run.layers()] == [(4, 2)]
    assert "does not say where the weights began" in (run.path / "logs" / "train.log").read_text()


def test_layers_are_left_alone_where_nobody_asks(tmp_path: Path, tokenizer: Any) -> None:
    trainer = hf_trainer(tmp_path, tokenizer, save_strategy="steps", save_steps=6)
    trainer.add_callback(FettleCallback(layer_interval_steps=None))
    trainer.train()
    assert open_run(tmp_path / "out" / "fettle").layers() == []
    assert not (tmp_path / "out" / "checkpoint-6" / "layer_start.pt").exists()


def test_predictions_are_those_of_the_weights_and_change_none(
    tmp_path: Path, tokenizer: Any, valid: Path
) -> None:
    silent = hf_trainer(tmp_path / "silent", tokenizer)
    silent.add_callback(FettleCallback(valid, eval_interval_steps=2, predictions={"samples": 0}))
    silent.train()
    asked = {"samples": 3, "max_new_tokens": 5, "every": "epoch"}
    trainer = hf_trainer(tmp_path / "asked", tokenizer)
    trainer.add_callback(FettleCallback(valid, eval_interval_steps=2, predictions=asked))
    trainer.train()
    mine, theirs = weights(trainer.model), weights(silent.model)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert open_run(tmp_path / "silent" / "out" / "fettle").predictions() == []
    rows = open_run(tmp_path / "asked" / "out" / "fettle").predictions()
    assert [row["step"] for row in rows] == [4] * 3 + [6] * 3  # the end of an epoch, and the last step
    model = trainer.model.eval()
    for row in rows[3:]:
        ids = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_tensors="pt")
        ids = ids["input_ids"]
        said = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, do_sample=False)[
            0, ids.shape[1] :
        ]
        assert row["prediction"] == tokenizer.decode(said, skip_special_tokens=True)
        assert row["prompt"][0]["role"] == "user"


def test_wrong_patterns_and_predictions_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"predictions.*'sample'.*Did you mean 'samples'"):
        FettleCallback(predictions={"sample": 3})
    with pytest.raises(ConfigError, match=r"patterns.*is not a regular expression"):
        FettleCallback(patterns={"rules": {"math": ["("]}})


def test_the_loss_of_an_accumulated_step_is_the_score_of_its_batches(tmp_path: Path, tokenizer: Any) -> None:
    """Per label token over all micro-batches, though these differ in label tokens."""
    model = tiny_model(tokenizer, attention_dropout=0.0)
    trainer = hf_trainer(tmp_path, tokenizer, model=model, max_steps=1, gradient_accumulation_steps=3)
    before = tiny_model(tokenizer, attention_dropout=0.0)
    trainer.add_callback(FettleCallback())
    trainer.train()
    sequences = [
        Sequence(ids[:length], labels[:length] != -100)
        for batch in trainer.data_collator.batches[:3]
        for ids, labels, length in zip(
            batch["input_ids"], batch["labels"], batch["attention_mask"].sum(1), strict=True
        )
    ]
    expected = score(before, sequences)
    [row] = open_run(tmp_path / "out" / "fettle").records("train")
    assert row["completion_tokens"] == expected.tokens.sum()
    assert row["tokens"] == sum(len(s) for s in sequences)
    assert row["loss"] == pytest.approx(expected.cross_entropy, rel=1e-5)
    assert row["loss_sum"] == pytest.approx(expected.cross_entropy_sum.sum(), rel=1e-5)


@pytest.mark.parametrize("clip_at", [1.0, 1000.0, 0.0])
def test_gradient_norm_and_learning_rate_are_those_in_force(
    tmp_path: Path, tokenizer: Any, clip_at: float
) -> None:
    """The norm is measured after clipping and told before it, as the trainer logs it."""
    trainer = hf_trainer(tmp_path, tokenizer, max_grad_norm=clip_at)
    trainer.add_callback(FettleCallback())
    trainer.train()
    rows = open_run(tmp_path / "out" / "fettle").records("train")
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(rows) == len(logs) == 6
    for row, log in zip(rows, logs, strict=True):
        assert row["grad_norm"] == pytest.approx(log["grad_norm"], rel=1e-5)
        assert row["learning_rate"] == pytest.approx(log["learning_rate"], rel=1e-12)
        assert row["loss"] == pytest.approx(log["loss"], rel=1e-5)


class Poison(transformers.TrainerCallback):
    """Makes weights or gradients NaN in the third step."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.weights: dict[str, torch.Tensor] = {}

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        model = kwargs["model"]
        if state.global_step != 2:
            return
        if self.what == "weights":
            model.get_input_embeddings().weight.data.fill_(torch.nan)
        else:
            model.model.norm.weight.register_hook(lambda gradient: gradient * torch.nan)
        self.weights = weights(model)


def test_without_the_callback_a_nan_goes_unnoticed(tmp_path: Path, tokenizer: Any) -> None:
    trainer = hf_trainer(tmp_path, tokenizer)
    trainer.add_callback(Poison("weights"))
    trainer.train()
    last = [entry for entry in trainer.state.log_history if "loss" in entry][-1]
    assert trainer.state.global_step == 6
    assert last["loss"] == 0.0
    assert last["grad_norm"] != last["grad_norm"]


@pytest.mark.parametrize("what", ["weights", "gradient"])
def test_a_nan_stops_within_the_step_and_names_the_last_good_checkpoint(
    tmp_path: Path, tokenizer: Any, what: str
) -> None:
    trainer = hf_trainer(tmp_path, tokenizer, save_strategy="steps", save_steps=1)
    poison = Poison(what)
    trainer.add_callback(poison)
    trainer.add_callback(FettleCallback())
    trainer.train()
    run = open_run(tmp_path / "out" / "fettle")
    assert trainer.state.global_step == 3
    assert run.state() == "failed"
    [alert] = [a for a in run.records("alert") if a["category"] != "checkpoint_without_evaluation"]
    assert (alert["level"], alert["category"], alert["step"]) == ("critical", "nan_loss", 3)
    assert alert["evidence"]["last_good_checkpoint"] == "checkpoint-2"
    assert "checkpoint-2" in alert["action"]
    assert not (tmp_path / "out" / "checkpoint-3").exists()
    after = weights(trainer.model)
    assert all(torch.equal(after[k].nan_to_num(7), v.nan_to_num(7)) for k, v in poison.weights.items())
    if what == "weights":
        assert run.records("train")[-1]["loss_nonfinite"] == "nan"


def test_training_stops_early_once_each_eval_failed_to_improve(
    tmp_path: Path, tokenizer: Any, valid: Path
) -> None:
    trainer = hf_trainer(tmp_path, tokenizer, learning_rate=0.0, max_steps=30)
    trainer.add_callback(
        FettleCallback(valid, eval_interval_steps=2, early_stopping_patience=3, predictions=FEW)
    )
    trainer.train()
    run = open_run(tmp_path / "out" / "fettle")
    # Evals at 2, 4 (also the end of an epoch: once), 6, 8; the first sets the mark.
    assert trainer.state.global_step == 8
    assert [e.step for e in run.evals()] == [2, 4, 6, 8]
    assert run.state() == "early_stopped"
    [stop] = run.records("early_stop")
    assert (stop["step"], stop["best_step"], stop["evals_without_improvement"]) == (8, 2, 3)


def test_the_fixed_eval_is_the_score_of_the_saved_weights(
    tmp_path: Path, tokenizer: Any, valid: Path
) -> None:
    from fettle.data import ChatEncoder, read_examples

    trainer = hf_trainer(tmp_path, tokenizer, save_strategy="steps", save_steps=2, max_steps=4)
    trainer.add_callback(FettleCallback(valid, predictions=FEW))
    trainer.train()
    run = open_run(tmp_path / "out" / "fettle")
    assert [e.step for e in run.evals()] == [2, 4]
    sequences = ChatEncoder(tokenizer).encode_all(read_examples(valid)).sequences
    for found, checkpoint in zip(run.evals(), run.checkpoints(), strict=True):
        assert checkpoint.path is not None
        assert checkpoint.path.resolve() == (tmp_path / "out" / f"checkpoint-{found.step}").resolve()
        saved = transformers.Qwen3ForCausalLM.from_pretrained(checkpoint.path)
        expected = score(saved, sequences)
        assert found.cross_entropy == pytest.approx(expected.cross_entropy, rel=1e-6)
        assert found.tokens == expected.tokens.sum()
        train = run.columns("train")
        window = (train["step"] > found.step - 2) & (train["step"] <= found.step)
        mean = train["loss_sum"][window].sum() / train["completion_tokens"][window].sum()
        info = json.loads((checkpoint.path / "fettle.json").read_text())
        assert info["inputs"]["train_loss"] == pytest.approx(mean)
        assert info["score"] == pytest.approx(sum(info["components"].values()))
        assert checkpoint.score == info["score"]


class Worsen(transformers.TrainerCallback):
    """After step 2 the weights drift away: the best stays at step 2."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= 2:
            kwargs["model"].model.norm.weight.data.mul_(-3.0 if state.global_step == 2 else 1.5)


@pytest.mark.parametrize("strategy", ["no", "steps"])
def test_the_best_is_saved_and_outlives_rotation(
    tmp_path: Path, tokenizer: Any, valid: Path, strategy: str
) -> None:
    saving: dict[str, Any] = {"save_strategy": strategy, "save_steps": 3, "save_total_limit": 2}
    trainer = hf_trainer(tmp_path, tokenizer, max_steps=12, learning_rate=1e-6, **saving)
    trainer.add_callback(Worsen())
    trainer.add_callback(
        FettleCallback(valid, eval_interval_steps=2, early_stopping_patience=0, predictions=FEW)
    )
    trainer.train()
    run = open_run(tmp_path / "out" / "fettle")
    best = min(run.evals(), key=lambda e: e.cross_entropy or 0.0)
    assert best.step == 2
    assert (tmp_path / "out" / "checkpoint-2" / "model.safetensors").is_file()
    on_disk = {c.step for c in run.checkpoints() if c.path is not None}
    assert on_disk == ({2, 12} if strategy == "steps" else {2})


@pytest.mark.parametrize("by_trainer", [False, True])
def test_a_resumed_run_goes_on_with_its_counters(
    tmp_path: Path, tokenizer: Any, valid: Path, by_trainer: bool
) -> None:
    def trained(folder: str, resume: str | None = None, **changes: Any) -> Any:
        settings: dict[str, Any] = {"save_strategy": "steps", "save_steps": 3, "max_steps": 9, **changes}
        settings["restore_callback_states_from_checkpoint"] = by_trainer
        trainer = hf_trainer(tmp_path / folder, tokenizer, **settings)
        trainer.add_callback(
            FettleCallback(valid, eval_interval_steps=3, early_stopping_threshold=9.0, predictions=FEW)
        )
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    whole = trained("whole")
    trained("cut")
    cut = trained("cut", resume=str(tmp_path / "cut" / "out" / "checkpoint-3"))
    expected, run = (open_run(tmp_path / folder / "out" / "fettle") for folder in ("whole", "cut"))
    assert [r["step"] for r in run.records("resume")] == [3]
    assert run.columns("train")["step"].tolist() == list(range(1, 10))
    assert run.state() == "completed"
    mine, theirs = weights(cut.model), weights(whole.model)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    for step in (6, 9):
        was, now = (
            json.loads((r.path.parent / f"checkpoint-{step}" / "fettle.json").read_text())
            for r in (expected, run)
        )
        assert now["state"] == was["state"]
        assert now["state"]["early_stopping"]["evals_without_improvement"] > 0


def test_a_checkpoint_from_before_the_callback_can_be_resumed(
    tmp_path: Path, tokenizer: Any, valid: Path
) -> None:
    hf_trainer(tmp_path, tokenizer, save_strategy="steps", save_steps=2, max_steps=4).train()
    trainer = hf_trainer(tmp_path, tokenizer, save_strategy="steps", save_steps=2, max_steps=6)
    trainer.add_callback(FettleCallback(valid, predictions=FEW))
    trainer.train(resume_from_checkpoint=True)
    run = open_run(tmp_path / "out" / "fettle")
    assert run.columns("train")["step"].tolist() == [5, 6]
    assert [e.step for e in run.evals()] == [6]


def test_starting_over_in_the_same_folder_supersedes_the_earlier_rows(
    tmp_path: Path, tokenizer: Any, valid: Path
) -> None:
    for steps in (5, 2):
        trainer = hf_trainer(tmp_path, tokenizer, max_steps=steps)
        trainer.add_callback(FettleCallback(valid, keep_best=False, predictions=FEW))
        trainer.train()
    run = open_run(tmp_path / "out" / "fettle")
    assert run.columns("train")["step"].tolist() == [1, 2]
    assert [e.step for e in run.evals()] == [2]


def test_a_run_that_raised_does_not_stand_in_its_own_way(tmp_path: Path, tokenizer: Any) -> None:
    class Interrupt(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            raise KeyboardInterrupt

    first = hf_trainer(tmp_path, tokenizer)
    first.add_callback(FettleCallback())
    first.add_callback(Interrupt())
    with pytest.raises(KeyboardInterrupt):
        first.train()
    again = hf_trainer(tmp_path, tokenizer, max_steps=2)
    again.add_callback(FettleCallback())
    again.train()
    assert open_run(tmp_path / "out" / "fettle").state() == "completed"


def test_a_full_disk_stops_nothing(
    tmp_path: Path, tokenizer: Any, valid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fettle.train.adopting_recorder.replace_file", full)
    monkeypatch.setattr("fettle.train.recorder.save_samples", full)
    trainer = hf_trainer(tmp_path, tokenizer, save_strategy="steps", save_steps=2)
    trainer.add_callback(FettleCallback(valid, predictions=FEW))
    trainer.train()
    run = open_run(tmp_path / "out" / "fettle")
    assert trainer.state.global_step == 6
    [alert] = [a for a in run.alerts() if a["category"] == "write_failed"]
    assert not alert["resolved"]
    assert "No space left on device" in alert["message"]


def test_what_cannot_work_is_refused_before_the_first_step(
    tmp_path: Path, tokenizer: Any, valid: Path
) -> None:
    trainer = hf_trainer(tmp_path, tokenizer)
    trainer.processing_class = trainer.callback_handler.processing_class = None
    trainer.add_callback(FettleCallback(valid, predictions=FEW))
    with pytest.raises(ModelError, match="processing_class"):
        trainer.train()
    broken = tmp_path / "broken.jsonl"
    broken.write_text(valid.read_text() + "{\n")
    trainer = hf_trainer(tmp_path, tokenizer)
    trainer.add_callback(FettleCallback(broken))
    with pytest.raises(DataError, match=r"broken\.jsonl:13"):
        trainer.train()
    assert trainer.state.global_step == 0
    assert not trainer.model._forward_hooks


def test_a_batch_without_a_label_is_said_and_not_a_loss_of_zero(tmp_path: Path, tokenizer: Any) -> None:
    class Own(transformers.Trainer):
        """As TRL does: a batch without labels counts as zero."""

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
            return super().compute_loss(model, inputs, *args, **options).nan_to_num(0.0)

    rows = [{**row, "labels": [-100] * len(row["labels"])} for row in encoded(tokenizer, 8)]
    trainer = hf_trainer(tmp_path, tokenizer, kind=Own, rows=Rows(rows), max_steps=2)
    trainer.add_callback(FettleCallback())
    trainer.train()
    run = open_run(tmp_path / "out" / "fettle")
    assert [(a["category"], a["level"]) for a in run.records("alert")] == [("no_label_tokens", "critical")]
    assert all(row.get("loss") is None for row in run.records("train"))


def test_train_loss_on_prompts_is_not_compared_with_eval_loss_on_completions(
    tmp_path: Path, tokenizer: Any, valid: Path
) -> None:
    rows = [{**row, "labels": row["input_ids"]} for row in encoded(tokenizer, 16)]
    trainer = hf_trainer(tmp_path, tokenizer, rows=Rows(rows), max_steps=4)
    trainer.add_callback(FettleCallback(valid, predictions=FEW))
    trainer.train()
    run = open_run(tmp_path / "out" / "fettle")
    [alert] = run.records("alert")
    assert alert["category"] == "not_comparable"
    assert [c.score for c in run.checkpoints()] == [None]
    assert (
        run.records("checkpoint")[0]["score_reason"]
        == "train loss covers prompts too, eval loss completions only"
    )


@pytest.mark.parametrize("adapter", [False, True])
def test_trl_sft_needs_nothing_but_the_callback(
    tmp_path: Path, tokenizer: Any, valid: Path, adapter: bool
) -> None:
    datasets = pytest.importorskip("datasets")
    trl = pytest.importorskip("trl")
    peft = pytest.importorskip("peft")
    lora = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM") if adapter else None
    trainer = trl.SFTTrainer(
        model=tiny_model(tokenizer),
        args=trl.SFTConfig(
            output_dir=str(tmp_path / "out"), max_steps=6, per_device_train_batch_size=2,
            gradient_accumulation_steps=2, learning_rate=3e-3, save_steps=2, logging_steps=1,
            assistant_only_loss=True, report_to="none", use_cpu=True, bf16=False, disable_tqdm=True,
        ),
        train_dataset=datasets.Dataset.from_list(chats(16)),
        processing_class=tokenizer,
        peft_config=lora,
    )  # fmt: skip
    trainer.add_callback(FettleCallback(fixed_eval=valid))
    trainer.train()
    run = open_run(tmp_path / "out" / "fettle")
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert run.columns("train")["loss"] == pytest.approx([log["loss"] for log in logs], rel=1e-4)
    assert run.columns("train")["grad_norm"] == pytest.approx([log["grad_norm"] for log in logs], rel=1e-4)
    assert [e.step for e in run.evals()] == [2, 4, 6]
    assert [c.step for c in run.checkpoints() if c.path and c.score is not None] == [2, 4, 6]
    # A model that has hardly learned anything is poorly calibrated, and that is all there is to say.
    assert {a["category"] for a in run.records("alert")} <= {"poor_calibration"}
    verdict = run.verdict()
    assert verdict.action in {"continue", "stop", "investigate", "insufficient"}
    assert verdict.checkpoint is not None


def test_alerts_of_the_callback_have_their_own_thresholds(
    tmp_path: Path, tokenizer: Any, valid: Path
) -> None:
    program = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + chr(10))"
    command = [sys.executable, "-c", program, str(tmp_path / "told.jsonl")]
    trainer = hf_trainer(tmp_path, tokenizer, save_strategy="steps", save_steps=2)
    trainer.add_callback(
        FettleCallback(
            valid,
            alerts={"exploding_gradients": 1e-3, "poor_calibration": None},
            notify={"command": command, "min_level": "critical", "timeout_seconds": 60.0},
        )
    )
    trainer.train()
    run = open_run(tmp_path / "out" / "fettle")
    [alert] = [a for a in run.alerts() if a["level"] == "critical"]
    assert (alert["category"], alert["threshold"], alert["first_step"]) == ("exploding_gradients", 1e-3, 1)
    assert run.verdict().action == "investigate"
    [told] = [json.loads(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    assert told["category"] == "exploding_gradients"
    assert "exploding_gradients: 0.001" in (tmp_path / "out" / "fettle" / "config.yaml").read_text()
    _, changes = replayed(
        LogFollower(tmp_path / "out" / "fettle" / "metrics.jsonl").poll(),
        AlertsConfig(exploding_gradients=1e-3, poor_calibration=None),
    )
    logged = [(r["change"], r["category"], r["step"]) for r in run.records("alert")]
    assert [(c.change, c.alert.category, c.step) for c in changes] == logged


def test_alerts_of_the_callback_refuse_a_key_that_is_none() -> None:
    with pytest.raises(ConfigError, match=r"FettleCallback\(alerts=\.\.\.\).*'exploding_gradient'"):
        FettleCallback(alerts={"exploding_gradient": 5.0})
    with pytest.raises(ConfigError, match="webhook"):
        FettleCallback(notify={"webhook": "hooks.example.org"})


def test_alerts_take_a_model_that_shows_no_loss_for_unmeasured_and_not_for_unlabelled(
    tmp_path: Path, tokenizer: Any
) -> None:
    class Own(transformers.Trainer):
        """The model never sees the labels, as in preference training."""

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
            labels = inputs.pop("labels")
            logits = model(**inputs).logits
            return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())

    trainer = hf_trainer(tmp_path, tokenizer, kind=Own, max_steps=2)
    trainer.add_callback(FettleCallback())
    trainer.train()
    run = open_run(tmp_path / "out" / "fettle")
    assert [(a["category"], a["level"]) for a in run.records("alert")] == [("loss_not_measured", "warning")]
