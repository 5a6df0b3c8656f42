"""A served folder with a tiny model and chats, and configurations that train on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

YAML = """\
model: ./base
data: {train: train.jsonl}
device: cpu
training: {epochs: 1000, batch_size: 2, max_seq_length: 64, layer_interval_steps: null}
lora: {rank: 2, alpha: 4}
"""
"""Trains until it is stopped."""


def launchable(root: Path) -> Path:
    """The folder, made."""
    from tiny_models import tiny_model, tiny_tokenizer

    root.mkdir(parents=True)
    tokenizer = tiny_tokenizer()
    tiny_model(vocab_size=len(tokenizer), hidden=32, layers=1).save_pretrained(root / "base")
    tokenizer.save_pretrained(root / "base")
    chats: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": f"say {i}"}, {"role": "assistant", "content": f"{i}"}]}
        for i in range(20)
    ]
    (root / "train.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    return root
