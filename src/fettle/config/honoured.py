"""Which keys have no effect where the training runs. Nothing is ignored in silence."""

from __future__ import annotations

from fettle.config.config import Config
from fettle.config.dump import flatten
from fettle.config.lora import ALL_LINEAR, ATTENTION_MODULES, MLP_MODULES, tinker_trains

_TINKER_LORA = {
    "lora.alpha": "the service fixes the scale of the update",
    "lora.dropout": "the service trains LoRA without dropout",
    "lora.rslora": "the service fixes the scale of the update",
    "lora.dora": "the service trains plain LoRA",
}
_TINKER = {
    "dtype": "the service chooses it",
    "device": "the service computes on its own",
    "training.gradient_checkpointing": "the service manages its own memory",
    "training.layer_interval_steps": "the weights stay with the service",
    "training.eval_batch_tokens": "the service forms its own batches",
    "lenses.pack": "the activations stay with the service",
    "lenses.neutral": "the activations stay with the service",
    "lenses.every_steps": "the activations stay with the service",
}


def not_honoured(config: Config) -> dict[str, str]:
    """Keys the backend cannot honour, each with the reason; a key that is off asks for nothing."""
    if config.backend == "local":
        return {}
    ignored = dict(_TINKER)
    lora = config.lora
    if lora is not None:
        ignored |= _TINKER_LORA
        if not _tinker_can_train(lora.target_modules):
            attention, mlp = tinker_trains(lora.target_modules)
            trained = " and ".join(["attention"] * attention + ["MLP"] * mlp)
            ignored["lora.target_modules"] = (
                f"the service trains attention, MLP or both, not single modules: here it trains {trained}; "
                "[q_proj, k_proj, v_proj, o_proj], [gate_proj, up_proj, down_proj] or all seven are honoured"
            )
    values = flatten(config.model_dump())
    return {key: reason for key, reason in ignored.items() if not _asks_for_nothing(values.get(key))}


def _asks_for_nothing(value: object) -> bool:
    return value is None or value is False or value == "auto" or value == 0.0


def _tinker_can_train(modules: list[str] | str) -> bool:
    attention, mlp = set(ATTENTION_MODULES), set(MLP_MODULES)
    return modules == ALL_LINEAR or set(modules) in (attention, mlp, attention | mlp)


def config_warnings(config: Config) -> list[str]:
    """What the configuration asks for in vain, one line each: allowed, but worth a word before training."""
    warnings = [
        f"{key} is not honoured by backend '{config.backend}': {why}"
        for key, why in not_honoured(config).items()
    ]
    if config.data.fixed_eval is None:
        stop = " and early stopping has nothing to watch" if config.training.early_stopping_patience else ""
        warnings.append(
            f"data.fixed_eval is not set: nothing is evaluated{stop}. Name a JSONL file of held-out chats"
        )
    return warnings
