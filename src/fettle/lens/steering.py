"""Steering: lens directions added to, taken from or nudged in the residual stream while a model runs."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from fettle.lens.blocks import blocks, check_layers, stream
from fettle.lens.direction import Direction


class Steer(Protocol):
    """Changes hidden states, [..., D], in float32."""

    def __call__(self, hidden: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True, eq=False)
class Add:
    """h + strength · unit, in deviations of the projection or as a share of ‖h‖.

    A deviation raises the evidence by one wherever it is added. A share of the norm depends on dimensions
    that have nothing to do with the concept: one massive dimension makes it many times stronger.
    """

    direction: Direction
    strength: float
    relative_to: Literal["deviation", "norm"] = "deviation"

    def __call__(self, hidden: Tensor) -> Tensor:
        unit = _vector(self.direction.unit, hidden)
        if self.relative_to == "norm":
            norm: Tensor = hidden.square().sum(dim=-1, keepdim=True).sqrt()
            return hidden + self.strength * norm * unit
        return hidden + self.strength * self.direction.deviation * unit


@dataclass(frozen=True, slots=True, eq=False)
class Remove:
    """h - share · ((h - mean)·unit) unit: the direction brought to its mean; 1 removes it altogether."""

    direction: Direction
    share: float = 1.0

    def __call__(self, hidden: Tensor) -> Tensor:
        unit, mean = _vector(self.direction.unit, hidden), _vector(self.direction.mean, hidden)
        return hidden - self.share * ((hidden - mean) @ unit)[..., None] * unit


@dataclass(frozen=True, slots=True, eq=False)
class Nudge:
    """Evidence moved by `rate` of its distance from `target`; positions that are there already stay."""

    direction: Direction
    target: float
    rate: float = 0.1

    def __call__(self, hidden: Tensor) -> Tensor:
        own = self.direction
        unit, mean = _vector(own.unit, hidden), _vector(own.mean, hidden)
        evidence = ((hidden - mean) @ unit) / own.deviation + own.offset
        return hidden + (self.rate * (self.target - evidence) * own.deviation)[..., None] * unit


@contextmanager
def steering(model: Any, steers: Mapping[int, Sequence[Steer]]) -> Generator[None]:
    """While inside, the residual stream behind each named layer is changed, during generation too.

    The change is worked out in float32 and rounded once to the model's dtype. Layer 0 are the embeddings.
    Raises ModelError for a layer that the model lacks.
    """
    check_layers(model, steers)
    stack = blocks(model)
    hooks = [
        stack[0].register_forward_pre_hook(_before(steers[layer]), with_kwargs=True)
        if layer == 0
        else stack[layer - 1].register_forward_hook(_behind(steers[layer]))
        for layer in steers
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def steered(hidden: Tensor, steers: Sequence[Steer]) -> Tensor:
    """Hidden states after all steers in turn, in their own dtype."""
    changed = hidden.float()
    for steer in steers:
        changed = steer(changed)
    return changed.to(hidden.dtype)


def _behind(steers: Sequence[Steer]) -> Any:
    def hook(_: Any, __: Any, output: Any) -> Any:
        changed = steered(stream(output), steers)
        return changed if isinstance(output, Tensor) else (changed, *output[1:])

    return hook


def _before(steers: Sequence[Steer]) -> Any:
    def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (steered(args[0], steers), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": steered(kwargs["hidden_states"], steers)}

    return hook


def _vector(values: Any, like: Tensor) -> Tensor:
    return torch.from_numpy(values).to(like.device, like.dtype)
