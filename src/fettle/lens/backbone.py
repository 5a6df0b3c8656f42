"""The model that lenses look into: any decoder or encoder of Transformers."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fettle.errors import ModelError
from fettle.train.model import CURE, first_line, read_model


def read_backbone(name: str, **options: Any) -> Any:
    """A causal model whole, so that adapters fit and it can answer; of others the stack that reads the text.

    `options` are those of `from_pretrained`. Raises ModelError when its weights cannot be read.
    """
    config = read_config(name)
    heads = ("ForCausalLM", "LMHeadModel")
    if any(str(architecture).endswith(heads) for architecture in config.architectures or ()):
        return read_model(name, **options)
    transformers: Any = import_module("transformers")
    try:
        model = transformers.AutoModel.from_pretrained(name, **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"model: '{name}' cannot be loaded: {first_line(error)}. {CURE}") from error
    return model.get_encoder() if config.is_encoder_decoder else model


def read_config(name: str) -> Any:
    """What a model says of how it is built, without its weights. Raises ModelError."""
    transformers: Any = import_module("transformers")
    try:
        return transformers.AutoConfig.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"model: '{name}' cannot be loaded: {first_line(error)}. {CURE}") from error


def default_layers(name: str) -> tuple[int, ...]:
    """At a quarter, half and three quarters of its depth."""
    depth = int(read_config(name).get_text_config().num_hidden_layers)
    return tuple(sorted({max(1, round(depth * share)) for share in (0.25, 0.5, 0.75)}))
