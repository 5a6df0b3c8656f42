"""A configuration, chats and a tiny base model for runs through the Tinker protocol."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tiny_models import tiny_model, tiny_tokenizer

YAML = """\
model: ./base
backend: tinker
data: {train: train.jsonl, fixed_eval: valid.jsonl}
lora: {rank: 4, alpha: 32, dropout: 0.0}
training:
  epochs: 2
  batch_size: 2
  gradient_accumulation_steps: 2
  learning_rate: 1.0e-2
  weight_decay: 0.01
  warmup_ratio: 0.2
  max_seq_length: 128
  checkpoint_interval_steps: 4
  eval_interval_steps: 6
  layer_interval_steps: null
  early_stopping_patience: 0
predictions: {samples: 2, max_new_tokens: 4}
"""
STEPS = 16
"""32 chats, 4 a step, twice."""


def write_project(folder: Path) -> Path:
    tokenizer = tiny_tokenizer()
    tiny_model("qwen3", vocab_size=len(tokenizer), hidden=32, layers=1).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    rng = random.Random(0)
    for name, count in (("train", 32), ("valid", 6)):
        with (folder / f"{name}.jsonl").open("w") as stream:
            for _ in range(count):
                word = "".join(rng.choices("abcdefgh", k=rng.randint(2, 9)))
                turns = [{"role": "user", "content": f"say {word}"}, {"role": "assistant", "content": word}]
                stream.write(json.dumps({"messages": turns}) + "\n")
    (folder / "train.yaml").write_text(YAML)
    return folder
