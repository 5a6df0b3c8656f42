"""How many tokens one forward pass may hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fettle.scoring.decoder import device_of, unwrapped
from fettle.scoring.memory import free_host_bytes

# Activations of one pass on a CPU: what the caches and a margin of memory take well. Larger
# passes were no faster at hidden sizes from 256 to 1024.
CPU_SCRATCH_BYTES = 8 << 20
CPU_TOKENS = (1024, 4096)
GPU_TOKENS = (2048, 65_536)
# Keys and values of all answers that are generated side by side.
CPU_CACHE_BYTES = 512 << 20
GENERATED_TOKENS = (2048, 1 << 19)


def default_batch_tokens(model: Any) -> int:
    """Tokens of one forward pass, from the model's width and the memory at hand."""
    device = device_of(model)
    per_token = _bytes_per_token(model)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(np.clip(free // 3 // per_token, *GPU_TOKENS))
    if device.type == "cpu":
        wanted = int(np.clip(CPU_SCRATCH_BYTES // per_token, *CPU_TOKENS))
        return max(1, min(wanted, free_host_bytes() // 2 // per_token))
    return GPU_TOKENS[0]


def default_generation_tokens(model: Any) -> int:
    """Tokens of all answers generated side by side, prompts counted: what their keys and values need."""
    device = device_of(model)
    room = torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else CPU_CACHE_BYTES
    return int(np.clip(room // _cached_bytes_per_token(model), *GENERATED_TOKENS))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a pass failed for want of memory, on whichever device."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _cached_bytes_per_token(model: Any) -> int:
    """Keys and values of one token in every layer."""
    base = unwrapped(model)
    config: Any = base.config.get_text_config()
    heads = int(config.num_attention_heads)
    shared = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or int(config.hidden_size) // heads
    return max(1, 2 * int(config.num_hidden_layers) * int(shared) * int(width) * base.dtype.itemsize)


def _bytes_per_token(model: Any) -> int:
    """Activations live at once in a layer: about eight of the hidden width, and the gated MLP."""
    base = unwrapped(model)
    config: Any = base.config.get_text_config()
    hidden = int(config.hidden_size)
    inner = getattr(config, "intermediate_size", None)
    inner = int(inner) if isinstance(inner, int) else 4 * hidden
    return base.dtype.itemsize * (8 * hidden + 3 * inner)
