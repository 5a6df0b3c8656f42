"""What one LoRA module adds to its weight, measured through products no larger than rank x rank."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

# Elements of a frozen weight that are held in float32 at a time.
CHUNK_ELEMENTS = 1 << 22
# Variants by their class in PEFT: those whose update is the one below.
VARIANTS = ("Plain", "Dora", "ALora")


class LoraUpdate:
    """The update of one module of PEFT: where it began and how far it moved.

    LoRA adds s·B·A to a weight W, with s = alpha / r (alpha / sqrt(r) for rsLoRA). With D = B - B0
    and A - A0, the movement is s·(D·A + B0·(A - A0)) = s·L·R for L = [D, B0] and R = [A; A - A0], and
    ‖L·R‖²_F = sum(LᵀL * RRᵀ): exact where nothing moved, which B·A - B0·A0 is not after rounding. Where
    training begins with B0 = 0 or A0 = 0, as it mostly does, nothing is copied: L = B and R = A.

    DoRA (Liu et al. 2024) also scales each row i of the sum to a learned magnitude m:
    W' = m / ‖W + s·B·A‖_i · (W + s·B·A), measured row by row from the same products and W·Rᵀ.
    """

    def __init__(self, module: Any, adapter: str) -> None:
        self._module, self._adapter = module, adapter
        outer, inner = self._factors()
        nothing = not bool(outer.any()) or not bool(inner.any())
        self._start = None if nothing else (outer.detach().clone(), inner.detach().clone())
        magnitude = self._magnitude()
        self._magnitude_start = None if magnitude is None else magnitude.detach().clone()
        self._rows: Tensor | None = None

    def parameters(self) -> list[Any]:
        """What is trained here."""
        names = ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector")
        held = (getattr(self._module, name, {}) for name in names)
        own = [kept[self._adapter] for kept in held if self._adapter in kept]
        flat: list[Any] = [p for part in own for p in (part.parameters() if _is_module(part) else [part])]
        return [p for p in flat if p.requires_grad]

    def plain_factors(self) -> tuple[Tensor, Tensor, float] | None:
        """B, A and s where the movement is that of s·B·A alone: no experts, no DoRA, begun at zero."""
        outer, inner = self._factors()
        plain = self._start is None and self._magnitude_start is None and outer.ndim == 2
        return (outer.detach(), inner.detach(), self._scaling) if plain else None

    def movement_square(self) -> Tensor | None:
        """‖W' - W0'‖²_F, a scalar on the device; None for DoRA on a weight that cannot be read."""
        left, right = self._difference()
        if self._magnitude_start is None:
            return (self._scaling**2 * (left.mT @ left) * (right @ right.mT)).sum()
        rows = self._start_rows()
        if rows is None:
            return None
        left = self._scaling * left
        low = ((left @ (right @ right.mT)) * left).sum(-1)
        cross = self._start_dot(left, right)
        before = exact(self._magnitude_start).flatten() / _positive(rows)
        after = exact(self._magnitude()).flatten() / _positive(rows + 2 * cross + low)
        gap = after - before
        return (gap**2 * rows + 2 * gap * after * cross + after**2 * low).sum()

    def weight_square(self) -> Tensor | None:
        """‖W0'‖²_F of the weight with the update it began with, a scalar; None where it cannot be read."""
        if self._magnitude_start is not None:
            return exact(self._magnitude_start).square().sum()
        rows = self._start_rows()
        return None if rows is None else rows.sum()

    def state(self) -> dict[str, Tensor]:
        """Where it began, for a checkpoint: empty factors stand for a product of zero."""
        outer, inner = self._start or (torch.empty(0), torch.empty(0))
        magnitude = {} if self._magnitude_start is None else {"magnitude": self._magnitude_start}
        return {"B": outer, "A": inner, **magnitude}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Begin where `state` says."""
        device = self._factors()[0].device
        placed = {key: value.to(device) for key, value in state.items()}
        self._start = (placed["B"], placed["A"]) if placed["B"].numel() else None
        self._magnitude_start = placed.get("magnitude")
        self._rows = None

    # -- the parts -------------------------------------------------------------------

    @property
    def _scaling(self) -> float:
        return float(self._module.scaling[self._adapter])

    def _factors(self) -> tuple[Tensor, Tensor]:
        """B [..., out, r] and A [..., r, in]; the leading dimension counts the experts of a fused weight."""
        module = self._module
        if self._adapter in module.lora_embedding_A:
            return module.lora_embedding_B[self._adapter], module.lora_embedding_A[self._adapter]
        outer, inner = module.lora_B[self._adapter].weight, module.lora_A[self._adapter].weight
        experts = getattr(module, "num_experts", 1)
        if experts > 1:
            inner = inner.reshape(experts, -1, inner.shape[-1])
            return outer.reshape(outer.shape[0], -1, experts).permute(2, 0, 1), inner
        return outer.flatten(1), inner.flatten(1)

    def _magnitude(self) -> Tensor | None:
        vectors = self._module.lora_magnitude_vector
        return vectors[self._adapter].weight if self._adapter in vectors else None

    def _difference(self) -> tuple[Tensor, Tensor]:
        """L and R, with L·R = B·A - B0·A0."""
        outer, inner = (exact(factor) for factor in self._factors())
        if self._start is None:
            return outer, inner
        outer_start, inner_start = (exact(factor) for factor in self._start)
        left = torch.cat([outer - outer_start, outer_start], dim=-1)
        return left, torch.cat([inner, inner - inner_start], dim=-2)

    def _start_rows(self) -> Tensor | None:
        """Squared norms of the rows of W + s·B0·A0, [..., out], kept for DoRA: W is frozen."""
        weight = self._weight() if self._rows is None else None
        if weight is None:
            return self._rows
        rows = torch.cat([exact(block.square().sum(-1)) for _, block in _blocks(weight)])
        if self._start is not None:
            outer, inner = (exact(factor) for factor in self._start)
            outer = self._scaling * outer
            rows += 2 * (_times(weight, inner) * outer).sum(-1)
            rows += ((outer @ (inner @ inner.mT)) * outer).sum(-1)
        self._rows = None if self._magnitude_start is None else rows
        return rows

    def _start_dot(self, left: Tensor, right: Tensor) -> Tensor:
        """Row by row, (W + s·B0·A0)·(L·R), [out]."""
        product = _times(self._weight(), right)
        if self._start is not None:
            outer, inner = (exact(factor) for factor in self._start)
            product = product + self._scaling * outer @ (inner @ right.mT)
        return (product * left).sum(-1)

    def _weight(self) -> Tensor | None:
        """The frozen weight with outputs as rows, [..., out, in]; None where it is away or unreadable."""
        module = self._module
        base = module.get_base_layer()
        if hasattr(module, "parameter_name"):
            weight = getattr(base, module.parameter_name)
            turned = weight.ndim == 3 and not module._did_swap_in_out_features
        elif hasattr(base, "weight") or hasattr(base, "W_q"):
            weight = import_module("peft.utils.integrations").dequantize_module_weight(base).flatten(1)
            turned = self._adapter in module.lora_embedding_A or getattr(module, "fan_in_fan_out", False)
        else:
            return None
        if weight.is_meta or not weight.is_floating_point():
            return None
        return weight.detach().mT if turned else weight.detach()


def lora_updates(model: Any) -> dict[str, LoraUpdate]:
    """The active update of each LoRA module, by its name in the model."""
    found: dict[str, LoraUpdate] = {}
    for name, module in model.named_modules():
        # Relatives of LoRA (AdaLoRA among them) hold bare parameters, and compute another update.
        if not (hasattr(module, "lora_embedding_A") and isinstance(module.lora_A, torch.nn.ModuleDict)):
            continue
        held = {*module.lora_A, *module.lora_embedding_A}
        active = [adapter for adapter in module.active_adapters if adapter in held]
        if active and _variant(module, active[0]).startswith(VARIANTS):
            own = getattr(module, "parameter_name", None)
            found[f"{name}.{own}" if own else name] = LoraUpdate(module, active[0])
    return found


def _variant(module: Any, adapter: str) -> str:
    """Name of the variant of LoRA, `Plain` for none."""
    variant = module.lora_variant.get(adapter)
    return "Plain" if variant is None else type(variant).__name__


def exact(value: Any) -> Tensor:
    """In float64, where the device has it."""
    return value.detach().to(torch.float32 if value.device.type == "mps" else torch.float64)


def _positive(squares: Tensor) -> Tensor:
    """Square roots; a row of zeros gets the smallest number instead of 0/0."""
    return squares.sqrt().clamp(min=torch.finfo(torch.float32).tiny)


def _times(weight: Any, right: Tensor) -> Tensor:
    """W·Rᵀ, [..., out, rank]."""
    turned = right.mT
    products = [
        block @ (turned if turned.ndim == 2 else turned[first : first + len(block)]).to(block)
        for first, block in _blocks(weight)
    ]
    return exact(torch.cat(products))


def _blocks(weight: Any) -> Iterator[tuple[int, Tensor]]:
    """A frozen weight a few rows at a time, in float32 at least: next to no memory beside itself."""
    size = max(1, CHUNK_ELEMENTS // max(1, weight[0].numel()))
    dtype = torch.promote_types(weight.dtype, torch.float32)
    for first in range(0, len(weight), size):
        yield first, weight[first : first + size].to(dtype)


def _is_module(value: Any) -> bool:
    return isinstance(value, torch.nn.Module)
