"""The keys a configuration may hold, and which of them an unknown one was meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from fettle.config.config import Config
from fettle.config.strict import Strict

OTHER_NAMES = {
    "model_name": "model",
    "model_name_or_path": "model",
    "base_model": "model",
    "precision": "dtype",
    "torch_dtype": "dtype",
    "train_file": "data.train",
    "dataset": "data.train",
    "datasets": "data.train",
    "eval": "data.fixed_eval",
    "eval_file": "data.fixed_eval",
    "valid": "data.fixed_eval",
    "validation": "data.fixed_eval",
    "val": "data.fixed_eval",
    "eval_dataset": "data.fixed_eval",
    "peft": "lora",
    "r": "lora.rank",
    "lora_r": "lora.rank",
    "lora_rank": "lora.rank",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "lora_target_modules": "lora.target_modules",
    "use_rslora": "lora.rslora",
    "use_dora": "lora.dora",
    "num_epochs": "training.epochs",
    "num_train_epochs": "training.epochs",
    "micro_batch_size": "training.batch_size",
    "per_device_train_batch_size": "training.batch_size",
    "grad_accumulation": "training.gradient_accumulation_steps",
    "lr": "training.learning_rate",
    "lr_scheduler": "training.lr_schedule",
    "lr_scheduler_type": "training.lr_schedule",
    "warmup_steps": "training.warmup_ratio",
    "max_length": "training.max_seq_length",
    "max_seq_len": "training.max_seq_length",
    "sequence_len": "training.max_seq_length",
    "cutoff_len": "training.max_seq_length",
    "logging_steps": "training.log_interval_steps",
    "save_steps": "training.checkpoint_interval_steps",
    "eval_steps": "training.eval_interval_steps",
    "patience": "training.early_stopping_patience",
    "gradient_clipping": "training.max_grad_norm",
    "grad_clip": "training.max_grad_norm",
    "random_seed": "training.seed",
}
"""What other trainers call a key of ours."""


def section_of(annotation: Any) -> type[Strict] | None:
    """The section model inside an annotation such as `LoraConfig | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        return annotation
    if get_origin(annotation) in (Union, UnionType, Annotated):
        found = (section_of(part) for part in get_args(annotation))
        return next((section for section in found if section is not None), None)
    return None


def keys_of(model: type[Strict], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all keys of a model, its sections' keys included."""
    for name, field in model.model_fields.items():
        yield (*above, name)
        section = section_of(field.annotation)
        if section is not None:
            yield from keys_of(section, (*above, name))


@cache
def all_keys(model: type[Strict] = Config) -> tuple[str, ...]:
    """Every key as a dotted path, in the order of the documentation."""
    return tuple(".".join(path) for path in keys_of(model))


def meant(section: str, name: str, model: type[Strict] = Config) -> str | None:
    """The dotted path of the key of `model` that an unknown `name` in `section` was most likely meant to be.

    In this order: the same name but for case and dashes, the same name in
    another section, the name another trainer gives it, a near miss among the
    section's own keys, a near miss anywhere.
    """
    prefix = f"{section}." if section else ""
    keys = all_keys(model)
    own = {key.removeprefix(prefix): key for key in keys if key.rpartition(".")[0] == section}
    elsewhere = {name: key for name, key in OTHER_NAMES.items() if key in keys}
    elsewhere |= {key.rpartition(".")[2]: key for key in reversed(keys)}
    lowered = name.strip().lower().replace("-", "_").replace(" ", "_")
    if lowered in own:
        return own[lowered]
    if lowered in elsewhere:
        return elsewhere[lowered]
    near = closest(lowered, list(own), 0.6)
    if near is not None:
        return own[near]
    far = closest(lowered, list(elsewhere), 0.75)
    return None if far is None else elsewhere[far]


def closest(name: str, candidates: list[str], cutoff: float) -> str | None:
    """The candidate most like `name` by difflib's ratio; None when none reaches `cutoff`."""
    found = difflib.get_close_matches(name, candidates, n=1, cutoff=cutoff)
    return found[0] if found else None
