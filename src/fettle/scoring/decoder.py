"""The parts of a Transformers model that scoring touches."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch import Tensor

# Adapters that live inside the layers, so that the decoder stack may be called by itself.
INNER_ADAPTERS = frozenset(
    {"LORA", "ADALORA", "IA3", "LOHA", "LOKR", "OFT", "BOFT", "HRA", "VERA", "FOURIERFT", "LN_TUNING", "BONE",
     "MISS", "RANDLORA", "SHIRA", "TRAINABLE_TOKENS", "C3A"}
)  # fmt: skip


def unwrapped(model: Any) -> Any:
    """The `PreTrainedModel` inside compiled, parallel and PEFT wrappers, adapters still in place."""
    inner = uncompiled(model)
    if type(inner).__name__ == "DistributedDataParallel":
        inner = inner.module
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


def uncompiled(model: Any) -> Any:
    """The model that `torch.compile` was given."""
    return getattr(model, "_orig_mod", model)


def device_of(model: Any) -> torch.device:
    """Where the token embeddings lie, and so the input belongs."""
    return unwrapped(model).get_input_embeddings().weight.device


def separable(model: Any) -> bool:
    """Whether hidden states can be had from the decoder stack alone, wrappers left out.

    Adapters that put tokens before the prompt, or that look at the whole input
    (prompt learning, aLoRA, X-LoRA), work in the wrapper's own forward.
    """
    base = unwrapped(model)
    if base.base_model is base or base.get_output_embeddings() is None:
        return False
    configs: dict[str, Any] = getattr(model, "peft_config", {})
    for config in configs.values():
        kind = str(getattr(config.peft_type, "value", config.peft_type))
        if kind not in INNER_ADAPTERS or getattr(config, "alora_invocation_tokens", None) is not None:
            return False
    return True


def virtual_tokens(model: Any) -> int:
    """Rows that prompt learning puts before the logits of the first token."""
    config: Any = getattr(model, "active_peft_config", None)
    if config is None or not config.is_prompt_learning or config.peft_type in ("PREFIX_TUNING", "CARTRIDGE"):
        return 0
    return int(config.num_virtual_tokens)


def run_decoder(model: Any, inputs: dict[str, Tensor | None]) -> Tensor:
    """Hidden states before the head, [B, T, D]."""
    decoder = unwrapped(model).base_model
    known = signature(decoder.forward).parameters
    if "position_ids" not in known:
        inputs = {key: value for key, value in inputs.items() if key != "position_ids"}
    return first(decoder(**inputs, use_cache=False))


def run_model(model: Any, inputs: dict[str, Tensor | None], keep: Tensor | None = None) -> Tensor:
    """The model's own logits, of all positions or of those that `logits_to_keep` names."""
    extra: dict[str, Any] = {} if keep is None else {"logits_to_keep": keep}
    # A compiled model would be compiled again for each length.
    return uncompiled(model)(**inputs, **extra, use_cache=False).logits


def first(output: Any) -> Tensor:
    """`last_hidden_state` of a model output, or the first of a tuple."""
    return output.last_hidden_state if hasattr(output, "last_hidden_state") else output[0]


@contextmanager
def undisturbed(model: Any) -> Generator[None]:
    """Evaluation mode without gradients; the mode of every module and all random state are restored."""
    modes = [(module, module.training) for module in model.modules()]
    cpu_state = torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        torch.set_rng_state(cpu_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)
