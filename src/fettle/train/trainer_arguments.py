"""What the arguments of a Hugging Face trainer say about a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml

from fettle.errors import ModelError
from fettle.train.provenance import run_metadata

EVAL_INTERVAL_STEPS = 250


def eval_interval(args: Any, state: Any) -> int:
    """The trainer's own interval of evaluation, else of saving, in steps."""
    if args.eval_strategy == "steps" and state.eval_steps:
        return int(state.eval_steps)
    if args.save_strategy == "steps" and state.save_steps:
        return int(state.save_steps)
    return EVAL_INTERVAL_STEPS


def max_length(args: Any, model: Any) -> int:
    """Tokens of the longest example: the trainer's own limit, and the model's context."""
    context = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    limits = [int(limit) for limit in (getattr(args, "max_length", None), context) if limit]
    return min(limits, default=2048)


def refuse_sharded(args: Any) -> None:
    """One process alone cannot run a model whose weights lie on many."""
    deepspeed: Any = getattr(args, "deepspeed_plugin", None)
    if getattr(args, "fsdp", None) or (deepspeed is not None and deepspeed.zero_stage == 3):
        raise ModelError(
            "FettleCallback cannot evaluate a sharded model. Train without FSDP and DeepSpeed ZeRO-3, "
            "or without the callback, and read the trainer's output folder with: fettle verdict FOLDER"
        )


def config_yaml(settings: dict[str, Any], args: Any, model: str) -> str:
    """config.yaml of a run: the callback's settings and the trainer's arguments, resolved."""
    resolved: dict[str, Any] = {
        "model": model,
        "backend": "huggingface",
        "fettle": settings,
        "training_arguments": {key: plain(value) for key, value in args.to_dict().items()},
    }
    return yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True)


def metadata(args: Any, model: Any, name: str) -> dict[str, Any]:
    """metadata.json of a run."""
    return run_metadata(
        "huggingface",
        model=model,
        name=name,
        device=str(args.device),
        processes=args.world_size,
        output_dir=str(Path(args.output_dir).absolute()),
        seed=args.seed,
    )


def plain(value: Any) -> Any:
    """As YAML has it: what it does not know is told by its text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in cast("list[Any]", value)]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
