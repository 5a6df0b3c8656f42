"""Attention over a packed row: every segment sees its parent and itself, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from fettle.scoring.layout import Segment

IMPLEMENTATION = "fettle_packed"

_segments: ContextVar[tuple[Segment, ...]] = ContextVar("fettle_segments")


@contextmanager
def packed_attention(model: Any, segments: tuple[Segment, ...]) -> Iterator[None]:
    """Let `model` attend within segments inside the block; its own attention is restored after it."""
    config = model.config
    previous = config._attn_implementation
    token = _segments.set(segments)
    config._attn_implementation = IMPLEMENTATION
    try:
        yield
    finally:
        config._attn_implementation = previous
        _segments.reset(token)


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
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The attention function that Transformers calls: query [1, H, T, D] to output [1, T, H, D]."""
    repeats = query.shape[1] // key.shape[1]
    outputs: list[Tensor] = []
    for segment in _segments.get():
        own = slice(segment.start, segment.stop)
        k, v = key[:, :, own], value[:, :, own]
        seen = 0
        if segment.parent is not None:
            trunk = slice(*segment.parent)
            seen = segment.parent[1] - segment.parent[0]
            k, v = torch.cat([key[:, :, trunk], k], dim=2), torch.cat([value[:, :, trunk], v], dim=2)
        if repeats > 1:
            k, v = k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1)
        q = query[:, :, own]
        mask = _mask(q.shape[2], seen, sliding_window, q.device)
        if softcap is not None:
            outputs.append(_softcapped(q, k, v, mask, scaling, softcap))
            continue
        outputs.append(
            scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scaling
            )
        )
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def _mask(own: int, seen: int, window: int | None, device: torch.device) -> Tensor | None:
    """[own, seen + own], true where attention falls; None where plain causal attention is meant."""
    windowed = window is not None and seen + own > window
    if not seen and not windowed:
        return None
    causal = torch.ones(own, seen + own, dtype=torch.bool, device=device).tril(seen)
    if windowed and window is not None:
        causal = causal.triu(seen - window + 1)
    return causal


def _softcapped(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float | None, softcap: float
) -> Tensor:
    scores = q @ k.transpose(2, 3) * (scaling if scaling is not None else q.shape[-1] ** -0.5)
    scores = torch.tanh(scores / softcap) * softcap
    if mask is None:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    weights = scores.masked_fill(~mask, -torch.inf).float().softmax(dim=-1)
    return weights.to(q.dtype) @ v


def _no_mask(*args: Any, **kwargs: Any) -> None:
    return None


AttentionInterface.register(IMPLEMENTATION, _attend)
AttentionMaskInterface.register(IMPLEMENTATION, _no_mask)
