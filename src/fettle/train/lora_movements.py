"""The movement of many LoRA modules in few operations: on a GPU their number is what costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fettle.train.lora_update import CHUNK_ELEMENTS, LoraUpdate, exact

Factors = tuple[str, Tensor, Tensor]


def movement_squares(updates: Mapping[str, LoraUpdate]) -> dict[str, Tensor | None]:
    """`movement_square` of each by name; those that began at zero with factors of one shape together."""
    found: dict[str, Tensor | None] = {}
    alike: dict[tuple[Any, ...], list[Factors]] = {}
    for name, update in updates.items():
        factors = update.plain_factors()
        if factors is None:
            found[name] = update.movement_square()
            continue
        outer, inner, scaling = factors
        kind = (scaling, outer.shape, inner.shape, outer.dtype, inner.dtype, outer.device, inner.device)
        alike.setdefault(kind, []).append((name, outer, inner))
    for (scaling, *_), group in alike.items():
        largest = max(group[0][1].numel(), group[0][2].numel())
        size = max(1, CHUNK_ELEMENTS // largest)
        for first in range(0, len(group), size):
            found |= _together(group[first : first + size], scaling)
    return found


def _together(group: Sequence[Factors], scaling: float) -> dict[str, Tensor]:
    """s²·sum(BᵀB * AAᵀ) = ‖s·B·A‖²_F of factors of one shape."""
    outer_NOR = exact(torch.stack([outer for _, outer, _ in group]))
    inner_NRI = exact(torch.stack([inner for _, _, inner in group]))
    squares_N = scaling**2 * ((outer_NOR.mT @ outer_NOR) * (inner_NRI @ inner_NRI.mT)).sum((-2, -1))
    return {name: square for (name, *_), square in zip(group, squares_N.unbind(), strict=True)}
