"""The blocks of a Transformers model, whatever its family calls them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from fettle.errors import ModelError
from fettle.scoring.decoder import unwrapped


def blocks(model: Any) -> nn.ModuleList:
    """Block k of a decoder or encoder at k - 1, adapters in place. Raises ModelError where none can be found.

    The outermost list as long as the configuration says the text model is deep: lists of experts lie deeper,
    towers for pictures and sound are left out.
    """
    base = unwrapped(model)
    depth = int(base.config.get_text_config().num_hidden_layers)
    lists = {
        name: module
        for name, module in base.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth
    }
    text_only = [name for name in lists if not any(part in name for part in ("vision", "visual", "audio"))]
    if not text_only:
        raise ModelError(
            f"{type(base).__name__}: has no list of {depth} blocks, so no layer of it can be read. "
            "Use a model whose blocks have weights of their own"
        )
    return lists[min(text_only, key=lambda name: name.count("."))]


def layer_count(model: Any) -> int:
    """Its blocks; layers are 0 (embeddings) to this."""
    return len(blocks(model))


def check_layers(model: Any, layers: Iterable[int]) -> None:
    """Raises ModelError for a layer that the model lacks."""
    count = layer_count(model)
    if missing := [layer for layer in layers if not 0 <= layer <= count]:
        raise ModelError(f"layer {missing[0]}: {type(unwrapped(model)).__name__} has layers 0 to {count}")


def stream(output: Any) -> Tensor:
    """The residual stream in what a block gives back, [B, T, D]."""
    return output if isinstance(output, Tensor) else output[0]
