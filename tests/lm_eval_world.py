"""Tasks of lm-evaluation-harness on local files, and a tiny model that has learnt a little of them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
import yaml

from fettle import Sequence
from fettle.scoring import completion_loss
from tiny_models import tiny_model, tiny_tokenizer

CONTEXT = 96
WORDS = "the answer to a question is another number and here are the other words of it".split()
TASKS = ("tiny_choice", "tiny_next", "tiny_text", "tiny_answer")


def trained_model(kind: str = "qwen3", **changes: Any) -> Any:
    """Some greedy answers are right and some are not."""
    tokenizer = tiny_tokenizer()
    model = tiny_model(kind, vocab_size=len(tokenizer), max_position_embeddings=CONTEXT, **changes)
    before = ("", "of it", "the answer to a question", "and are here")
    lines = [f"{words} {i} plus {i + 1} is {2 * i + 1}.\n" for i in range(12) for words in before]
    sequences = [Sequence(ids, [1] * len(ids)) for ids in map(tokenizer.encode, lines)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(60):
        (completion_loss(model, sequences) / 700).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def write_tasks(folder: Path, count: int = 12) -> Path:
    """A task of each kind of request; documents have very different lengths, some beyond the context."""
    rng = random.Random(0)

    def words(low: int, high: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(low, high)))

    documents: list[dict[str, Any]] = []
    for i in range(count):
        number, long = rng.randrange(12), words(40, 90) + ". " if i % 6 == 5 else ""
        right = f"{number} plus {number + 1} is {2 * number + 1}."
        foreign = "déjà 日本 🙂 " if i % 4 == 3 else ""
        documents.append(
            {
                "question": f"{long}{words(0, 6)} {foreign}{number} plus {number + 1}",
                "choices": [f"is {2 * number + 1}.", "is a number", words(1, 12), "🙂 é", "and are here"],
                "answer": 0,
                "text": f"{long}{right}\n" * rng.randint(1, 5),
                "right": str(2 * number + 1),
            }
        )
    documents[3]["text"] = "🙂"
    data = folder / "documents.jsonl"
    data.write_text("\n".join(json.dumps(document) for document in documents))
    shared: dict[str, Any] = {
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"train": str(data), "test": str(data)},
            "cache_dir": str(folder / "cache"),
        },
        "test_split": "test",
        "fewshot_split": "train",
    }
    text = {"word_perplexity": "weighted_perplexity", "bits_per_byte": "bits_per_byte"}
    own: dict[str, dict[str, Any]] = {
        "tiny_choice": {
            "output_type": "multiple_choice",
            "doc_to_text": "{{question}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "answer",
            "metric_list": [{"metric": name} for name in ("acc", "acc_norm", "acc_mutual_info")],
        },
        "tiny_next": {
            "output_type": "loglikelihood",
            "doc_to_text": "{{question}}",
            "doc_to_target": " is {{right}}.",
            "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
        },
        "tiny_text": {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "num_fewshot": 0,
            "metric_list": [{"metric": name, "aggregation": how} for name, how in text.items()],
        },
        "tiny_answer": {
            "output_type": "generate_until",
            "doc_to_text": "{{question}}",
            "doc_to_target": "{{right}}",
            "generation_kwargs": {"until": [".", "\n\n", "é"], "max_gen_toks": 24, "do_sample": False},
            "filter_list": [
                {
                    "name": "number",
                    "filter": [
                        {"function": "regex", "regex_pattern": r"is (\d+)"},
                        {"function": "take_first"},
                    ],
                }
            ],
            "metric_list": [{"metric": "exact_match"}],
        },
    }
    for name, keys in own.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **shared, **keys}))
    return folder
