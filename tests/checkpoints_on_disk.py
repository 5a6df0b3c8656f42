"""A run folder with a small base model and LoRA checkpoints of random weights."""

from __future__ import annotations

import json
import random
import warnings
from pathlib import Path
from typing import Any

import peft
import torch
import yaml

from fettle.config import EvaluationConfig
from fettle.evaluation.evaluate import evaluate
from fettle.evaluation.results import Evaluation
from fettle.evaluation.subject import find_subjects
from fettle.runs import RunFolder, write_checkpoint
from tiny_models import tiny_model, tiny_tokenizer


def save_base(folder: Path, seed: int = 0, **changes: Any) -> Any:
    """A tiny model with its tokenizer in a folder; gives the model."""
    tokenizer = tiny_tokenizer()
    model = tiny_model("qwen3", vocab_size=len(tokenizer), hidden=32, layers=2, seed=seed, **changes)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def save_adapter(folder: Path, base: Path, seed: int, rank: int = 4, spread: float = 0.3) -> None:
    """A LoRA adapter whose factors are drawn, so that it changes every answer."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    config = peft.LoraConfig(r=rank, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        wrapped: Any = peft.get_peft_model(model, config)
    torch.manual_seed(seed)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=spread)
    wrapped.save_pretrained(folder, save_embedding_layers=False)


def write_chats(path: Path, count: int, seed: int = 0) -> None:
    rng = random.Random(seed)
    with path.open("w") as stream:
        for _ in range(count):
            word = "".join(rng.choices("abcdefgh", k=rng.randint(2, 9)))
            turns = [{"role": "user", "content": f"say {word}"}, {"role": "assistant", "content": word}]
            stream.write(json.dumps({"messages": turns, "pattern": word[0]}) + "\n")


def write_run(root: Path, steps: tuple[int, ...] = (10, 20, 30)) -> Path:
    """base/, valid.jsonl and a run folder with a checkpoint a step."""
    save_base(root / "base")
    write_chats(root / "valid.jsonl", 24)
    config = {"model": str(root / "base"), "data": {"fixed_eval": str(root / "valid.jsonl")}}
    folder = RunFolder.create(root / "run", config_yaml=yaml.safe_dump(config), metadata={})
    for step in steps:
        write_checkpoint(
            folder.checkpoints_path,
            step,
            lambda aside, step=step: save_adapter(aside, root / "base", seed=step),
            {"step": step},
        )
    return folder.path


def run_evaluation(root: Path, checkpoints: str = "all", **more: Any) -> Evaluation:
    """`fettle eval run` in this folder; `more` are arguments of `evaluate`."""
    subjects, skipped = find_subjects(str(root / "run"), checkpoints, best=20)
    config = more.pop("config", EvaluationConfig())
    data = more.pop("data", [root / "valid.jsonl"])
    return evaluate(subjects, data, config, out=root / "eval_runs", skipped=skipped, **more)
