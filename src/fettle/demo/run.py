"""The demo from nothing to a finished run, every part a file that can be looked at."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fettle.config import load_config
from fettle.demo.data import COUNTS, fine_tuning, first_skill, write_chats
from fettle.runs import RunFolder, RunReader

if TYPE_CHECKING:
    from fettle.train.pipeline import DoneStep

FINISHED = ("completed", "early_stopped")

FIRST_SKILL_YAML = """\
# Gives the untrained model its first skill: copying words, naming their first and last letter.
model: {model}
data:
  train: first_skill.jsonl
lora: null
training:
  epochs: 50
  max_steps: {steps}
  batch_size: 32
  learning_rate: 5e-3
  warmup_ratio: 0.1
  max_seq_length: 128
  length_buckets: false
  log_interval_steps: 1000
  checkpoint_interval_steps: 100000
"""
TRAIN_YAML = """\
# Fine-tunes the base model well past its best step, to see fettle notice.
model: {model}
data:
  train: train.jsonl
  fixed_eval: valid.jsonl
lora:
  rank: 32
  alpha: 64
  dropout: 0.0
training:
  epochs: {epochs}
  batch_size: 16
  learning_rate: 8e-3
  max_seq_length: 128
  length_buckets: false      # a handful of kinds of very different length: batches of one kind learn worse
  log_interval_steps: 1000
  checkpoint_interval_steps: 100000   # only the best ones and the last
  eval_interval_steps: {interval}
  eval_at_epoch_end: false
  early_stopping_patience: 0          # off: the demo shows what it costs to go on
  seed: 7
predictions:
  max_new_tokens: 32                  # no answer is longer
"""


def run_demo(
    folder: Path,
    *,
    say: Callable[[str], None],
    on_start: Callable[[int, int], None] | None = None,
    on_step: Callable[[DoneStep], None] | None = None,
    base_steps: int = 450,
    epochs: int = 34,
    interval: int = 40,
) -> Path:
    """Make model and data in `folder`, train, and return the run. What is there and whole is kept."""
    transformers: Any = import_module("transformers")
    transformers.utils.logging.disable_progress_bar()
    bars = {"on_start": on_start, "on_step": on_step}
    base = _base_model(folder, say, base_steps, bars)
    run = folder / "runs" / "demo"
    if _finished(run):
        say(f"3/3  {run} is there already")
        return run
    train_chats, held_out = fine_tuning(COUNTS)
    write_chats(folder / "train.jsonl", train_chats)
    write_chats(folder / "valid.jsonl", held_out)
    config = folder / "train.yaml"
    config.write_text(
        TRAIN_YAML.format(model=f"./{base.relative_to(folder)}", epochs=epochs, interval=interval)
    )
    say(
        f"3/3  fine-tuning it with LoRA on {len(train_chats)} chats of {len(COUNTS)} kinds; "
        f"{len(held_out)} are held out"
    )
    _train(config, run, bars, log_level="WARNING")
    return run


def _base_model(folder: Path, say: Callable[[str], None], steps: int, bars: dict[str, Any]) -> Path:
    """The checkpoint of the first skill, trained where it is not there."""
    from fettle.demo.model import build_tokenizer, save_untrained_model

    run = folder / "runs" / "first-skill"
    if not _finished(run):
        say("1/3  building a small Qwen3 and its tokenizer")
        chats = first_skill(4096)
        write_chats(folder / "first_skill.jsonl", chats)
        examples = [*chats, *fine_tuning(COUNTS)[0]]
        texts = [f"{m['role']}\n{m['content']}\n" for chat in examples for m in chat["messages"]]
        save_untrained_model(folder / "untrained", build_tokenizer(texts))
        config = folder / "first_skill.yaml"
        config.write_text(FIRST_SKILL_YAML.format(model="./untrained", steps=steps))
        say("2/3  teaching it a first skill: copy a word, name its first and last letter")
        _train(config, run, bars, log_level="ERROR")  # that it evaluates nothing is meant
    return max((run / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


def _train(config: Path, run: Path, bars: dict[str, Any], *, log_level: str) -> None:
    from fettle.train.job import train

    train(load_config(config), out=run, log_level=log_level, **bars)


def _finished(run: Path) -> bool:
    return RunFolder.is_run(run) and RunReader(run).state() in FINISHED
