"""FettleCallback inside real trainers of Transformers and TRL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = []
transformers: Any = pytest.importorskip("transformers")

from fettle import FettleCallback, Sequence, open_run, score  # noqa: E402

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


def hf_trainer(tmp_path: Path, tokenizer: Any, *, model: Any = None, rows: Any = None, **changes: Any) -> Any:
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
    return transformers.Trainer(
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
    watched.add_callback(FettleCallback(valid, eval_interval_steps=2))
    watched.train()
    assert len(open_run(tmp_path / "watched" / "out" / "fettle").evals()) == 3
    mine, theirs = weights(watched.model), weights(plain.model)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert not watched.model._forward_hooks


def test_the_loss_of_an_accumulated_step_is_the_score_of_its_batches(tmp_path: Path, tokenizer: Any) -> None:
    """Also where micro-batches differ in label tokens, and where the trainer would log a rounded number."""
    trainer = hf_trainer(tmp_path, tokenizer, max_steps=1, gradient_accumulation_steps=3)
    before = tiny_model(tokenizer)
    trainer.add_callback(FettleCallback())
    trainer.train()
    sequences = [
        Sequence(ids[keep], labels[keep] != -100)
        for batch in trainer.data_collator.batches[:3]
        for ids, labels, keep in zip(
            *(batch[key].numpy() for key in ("input_ids", "labels")),
            batch["attention_mask"].numpy() == 1,
            strict=True,
        )
    ]  # fmt: skip
    # The model trains with dropout in attention; the reference is the same model without.
    expected = score(before, sequences)
    [row] = open_run(tmp_path / "out" / "fettle").records("train")
    assert row["completion_tokens"] == expected.tokens.sum()
    assert row["tokens"] == sum(len(s) for s in sequences)
    assert row["loss"] == pytest.approx(expected.cross_entropy, rel=0.02)
    assert row["loss"] == row["loss_sum"] / row["completion_tokens"]
