"""One epoch of LoRA training beside Hugging Face `Trainer` and TRL `SFTTrainer`: CPU seconds and peak memory.

    python benchmarks/training.py [--vocabularies 360 32000] [--rounds 3] [--json]

The same model, data, batch and adapter for each, every contender in a process of its own, one thread,
rounds interleaved. About 15 % of the tokens are completions.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

CONTENDERS = ("fettle", "trainer", "trl")
SIZES: dict[str, Any] = {
    "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32,
}  # fmt: skip
BATCH, EXAMPLES = 16, 128


def examples(vocabulary: int) -> list[dict[str, list[int]]]:
    """Mixed lengths; prompts of 40 to 200 tokens, completions about 15 % of all."""
    import numpy as np

    rng = np.random.default_rng(0)
    rows: list[dict[str, list[int]]] = []
    for _ in range(EXAMPLES):
        prompt = int(rng.integers(40, 200))
        completion = max(3, round(prompt * 0.15 / 0.85))
        ids = rng.integers(3, vocabulary, prompt + completion).tolist()
        rows.append({"input_ids": ids, "labels": [-100] * prompt + ids[prompt:]})
    return rows


def build_model(vocabulary: int) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=vocabulary, max_position_embeddings=512, **SIZES))
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return get_peft_model(
        model, LoraConfig(r=16, lora_alpha=32, target_modules=modules, task_type="CAUSAL_LM")
    )


def train_fettle(model: Any, rows: list[dict[str, list[int]]]) -> float:
    import numpy as np
    import torch

    from fettle.data import Sequence
    from fettle.scoring import completion_loss
    from fettle.train.order import BatchOrder

    sequences = [Sequence(r["input_ids"], [label != -100 for label in r["labels"]]) for r in rows]
    order = BatchOrder(np.array([len(s) for s in sequences]), examples_per_step=BATCH, epochs=1, seed=0)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    model.train()
    started = time.process_time()
    for step in range(1, order.total_steps + 1):
        batch = [sequences[i] for i in order.batch(step)]
        (completion_loss(model, batch) / sum(s.completion_tokens for s in batch)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return time.process_time() - started


def train_peer(model: Any, rows: list[dict[str, list[int]]], name: str, folder: str) -> float:
    from datasets import Dataset
    from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast, Trainer, TrainingArguments

    common: dict[str, Any] = {
        "output_dir": folder, "per_device_train_batch_size": BATCH, "num_train_epochs": 1, "report_to": [],
        "save_strategy": "no", "logging_steps": 1000, "disable_tqdm": True, "use_cpu": True,
        "train_sampling_strategy": "group_by_length", "learning_rate": 1e-4,
    }  # fmt: skip
    data = Dataset.from_list(rows)
    if name == "trainer":
        from tokenizers import Tokenizer, models

        tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), pad_token="<pad>")
        collator = DataCollatorForSeq2Seq(tokenizer, padding=True)
        trainer: Any = Trainer(model, TrainingArguments(**common), train_dataset=data, data_collator=collator)
    else:
        from tokenizers import Tokenizer, models
        from trl import SFTConfig, SFTTrainer

        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(models.BPE()), pad_token="<pad>", eos_token="<eos>"
        )
        tokenizer.add_special_tokens({"pad_token": "<pad>", "eos_token": "<eos>"})
        settings = SFTConfig(**common, max_length=None, dataset_kwargs={"skip_prepare_dataset": True})
        trainer = SFTTrainer(model, settings, train_dataset=data, processing_class=tokenizer)
    started = time.process_time()
    trainer.train()
    return time.process_time() - started


def run_one(name: str, vocabulary: int) -> None:
    """In the child: train an epoch and print CPU seconds and peak memory above the loaded model."""
    model, rows = build_model(vocabulary), examples(vocabulary)
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        seconds = train_fettle(model, rows) if name == "fettle" else train_peer(model, rows, name, folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("RESULT", json.dumps({"seconds": seconds, "mb": (peak - loaded) / 1024}))


def measure(name: str, vocabulary: int) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__)), "--child", name, str(vocabulary)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "RESULT" not in done.stdout:
        raise SystemExit(f"{name} at vocabulary {vocabulary} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.rsplit("RESULT", 1)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[360, 32_000, 151_936])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_one(arguments.child[0], int(arguments.child[1]))
        return
    table: list[dict[str, Any]] = []
    for vocabulary in arguments.vocabularies:
        rows = [{name: measure(name, vocabulary) for name in CONTENDERS} for _ in range(arguments.rounds)]
        for name in CONTENDERS:
            ratios = sorted(row[name]["seconds"] / row["fettle"]["seconds"] for row in rows)
            table.append(
                {
                    "vocabulary": vocabulary,
                    "contender": name,
                    "seconds": statistics.median(row[name]["seconds"] for row in rows),
                    "mb": statistics.median(row[name]["mb"] for row in rows),
                    "times_fettle": [ratios[0], statistics.median(ratios), ratios[-1]],
                }
            )
    if arguments.json:
        print(json.dumps(table, indent=2))
        return
    print(f"{'vocabulary':>10}  {'contender':10} {'CPU s':>7} {'peak MB':>8}   times fettle (range)")
    for row in table:
        low, middle, high = row["times_fettle"]
        print(
            f"{row['vocabulary']:>10}  {row['contender']:10} {row['seconds']:7.2f} {row['mb']:8.0f}   "
            f"{middle:.2f} ({low:.2f} to {high:.2f})"
        )


if __name__ == "__main__":
    main()
