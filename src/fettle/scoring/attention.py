"""Attention over a packed row: every segment sees its context and itself, nothing else."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout as drop
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from fettle.scoring.layout import Block, Span

IMPLEMENTATION = "fettle_packed"

# Scores of one chunk of rows where attention is written out (soft-cap, sinks), in numbers.
EXPLICIT_SCORES = 4 << 20

KeyValue = tuple[Tensor, Tensor]


@dataclass(slots=True)
class Packing:
    """What the attention calls of one forward pass need to know and leave behind."""

    blocks: tuple[Block, ...]
    keep: tuple[Span, ...] = ()
    carried: list[KeyValue] | None = None
    """Keys and values of the tokens that the pass before has run, call by call."""
    kept: list[KeyValue] = field(default_factory=list[KeyValue])
    """The same for the next pass."""
    calls: int = 0
    masks: dict[tuple[Block, int | None], Tensor] = field(default_factory=dict[Any, Tensor])


_packing: ContextVar[Packing] = ContextVar("fettle_packing")


@contextmanager
def packed_attention(model: Any, packing: Packing) -> Generator[None]:
    """Let `model` attend as `packing` says inside the block; its own attention is restored after it."""
    configs = {id(config): config for config in _configs(model)}.values()
    before = [(config, config._attn_implementation_internal) for config in configs]
    token = _packing.set(packing)
    for config in configs:
        config._attn_implementation_internal = IMPLEMENTATION
    try:
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation_internal = implementation
        _packing.reset(token)


def _configs(model: Any) -> Iterator[Any]:
    for module in model.modules():
        config = getattr(module, "config", None)
        if hasattr(config, "_attn_implementation_internal"):
            yield config


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The attention function that Transformers calls: query [1, H, T, D] to output [1, T, H, D]."""
    packing = _packing.get()
    rows = [block.rows for block in packing.blocks]
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if not causal or kwargs.get("position_bias") is not None or key.shape[2] != sum(rows):
        raise NotImplementedError("this attention cannot be packed")
    # One split each: its backward pass is one concatenation, where slices would each make a full tensor.
    own = zip(*(_split(tensor, rows, dim=2) for tensor in (query, key, value)), strict=True)
    if packing.carried is not None:
        before_k, before_v = packing.carried[packing.calls]
        key, value = torch.cat([before_k, key], dim=2), torch.cat([before_v, value], dim=2)
    packing.calls += 1
    if packing.keep:
        packing.kept.append((_spans(key, packing.keep), _spans(value, packing.keep)))
    outputs: list[Tensor] = []
    for block, (q, k, v) in zip(packing.blocks, own, strict=True):
        if block.context:
            k = torch.cat([_spans(key, block.context), k], dim=2)
            v = torch.cat([_spans(value, block.context), v], dim=2)
        if softcap is not None or s_aux is not None:
            mask = _mask(packing, block, sliding_window, q.device)
            outputs.append(_explicit((q, k, v), mask, scaling, softcap, s_aux, dropout))
        else:
            outputs.append(_fused(packing, block, (q, k, v), sliding_window, scaling, dropout))
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def _split(tensor: Any, sizes: int | list[int], dim: int) -> tuple[Tensor, ...]:
    return tensor.split(sizes, dim=dim)


def _spans(keys: Tensor, spans: tuple[Span, ...]) -> Tensor:
    parts = [keys[:, :, start:stop] for start, stop in spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _fused(
    packing: Packing,
    block: Block,
    qkv: tuple[Tensor, Tensor, Tensor],
    window: int | None,
    scaling: float | None,
    dropout: float,
) -> Tensor:
    """One call of torch's attention for a block, with the cheapest mask that says the same."""
    q, k, v = qkv
    seen, rows = block.seen, block.rows
    plain = len(block.lengths) == 1 and (window is None or seen + rows <= window)
    mask = None
    if not plain or seen >= rows:
        mask = _mask(packing, block, window, q.device)
    elif seen:
        # Rows of zeros stand for the context, so that the causal kernel, which skips what is
        # masked, can be used: cheaper than a mask while the context is the shorter part.
        q = torch.cat([q.new_zeros(*q.shape[:2], seen, q.shape[3]), q], dim=2)
    repeats = q.shape[1] // k.shape[1]
    # With a mask, GPUs have no fast kernel for grouped heads.
    grouped = repeats > 1 and (mask is None or q.device.type == "cpu")
    if repeats > 1 and not grouped:
        k, v = k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1)
    options: dict[str, Any] = {"dropout_p": dropout, "scale": scaling, "enable_gqa": grouped}
    output = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, **options)
    return output[:, :, -rows:]


def _mask(packing: Packing, block: Block, window: int | None, device: torch.device) -> Tensor:
    """[rows, seen + rows], true where attention falls; made once a pass for all layers."""
    cached = packing.masks.get((block, window))
    if cached is not None:
        return cached
    lengths = torch.tensor(block.lengths)
    segment = torch.repeat_interleave(torch.arange(len(block.lengths)), lengths)
    position = block.seen + torch.cat([torch.arange(n) for n in block.lengths])
    key_position = torch.cat([torch.arange(block.seen), position])
    distance = position[:, None] - key_position[None, :]
    mask = distance >= 0
    mask[:, block.seen :] &= segment[:, None] == segment[None, :]
    if window is not None:
        mask &= distance < window
    packing.masks[block, window] = mask = mask.to(device)
    return mask


def _explicit(
    qkv: tuple[Tensor, Tensor, Tensor],
    mask: Tensor,
    scaling: float | None,
    softcap: float | None,
    sinks: Tensor | None,
    dropout: float,
) -> Tensor:
    """Attention written out, for what torch's kernels lack: soft-capped scores (Gemma 2), sinks (GPT-OSS)."""
    q, k, v = qkv
    scale = q.shape[-1] ** -0.5 if scaling is None else scaling
    repeats = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1)
    chunk = max(1, EXPLICIT_SCORES // (q.shape[1] * k.shape[2]))
    outputs: list[Tensor] = []
    for part, seen in zip(_split(q, chunk, dim=2), _split(mask, chunk, dim=0), strict=True):
        scores = part @ k.transpose(2, 3) * scale
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        scores = scores.float().masked_fill(~seen, -torch.inf)
        if sinks is not None:
            column = sinks.float().reshape(1, -1, 1, 1).expand(1, -1, part.shape[2], 1)
            scores = torch.cat([scores, column], dim=-1)
        weights = scores.softmax(dim=-1)[..., : k.shape[2]]
        outputs.append(drop(weights.to(q.dtype), p=dropout, training=dropout > 0) @ v)
    return torch.cat(outputs, dim=2)


def _no_mask(*args: Any, **kwargs: Any) -> None:
    return None


AttentionInterface.register(IMPLEMENTATION, _attend)
AttentionMaskInterface.register(IMPLEMENTATION, _no_mask)
