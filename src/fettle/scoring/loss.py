"""Cross-entropy at label positions: gradients are formed chunk by chunk, logits never kept."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fettle.scoring.head import LMHead
from fettle.scoring.statistics import exact_float32

# Logits of one chunk, in bytes of float32, and slices of the weights that are converted at a time.
CHUNK_BYTES = 64 << 20
SLICE_ENTRIES = 16_384


def fused_cross_entropy(hidden_PD: Tensor, head: LMHead, targets_P: Tensor) -> Tensor:
    """Sum over positions of -log p(target) in nats, differentiable in hidden states, weight and bias.

    Gradients are formed during the forward pass, one chunk of positions at a time
    (the scheme of Liger Kernel, arXiv 2410.10989, and Apple's CCE, arXiv 2411.09009), so
    that memory is one chunk of logits, nothing is computed twice, and a frozen head
    costs no gradient of its own. Logits are float32 whatever the weights are: under
    autocast and on a GPU products are of half-precision numbers, summed in float32.
    The loss is float32 (float64 for float64 input).
    """
    compute = _compute_dtype(hidden_PD, head)
    function: Any = _FusedCrossEntropy
    return function.apply(hidden_PD, head.weight, head.bias, targets_P, head.scale, head.softcap, compute)


def _compute_dtype(hidden: Tensor, head: LMHead) -> torch.dtype:
    """Precision of the factors of each product.

    Half precision only where a product of halves is summed in float32 at speed; a CPU
    would round every logit to 8 bits.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device) and device == "cuda":
        return torch.get_autocast_dtype(device)
    both = torch.promote_types(hidden.dtype, head.weight.dtype)
    return both if device == "cuda" else torch.promote_types(both, torch.float32)


class _Slices(NamedTuple):
    """The head's weights, converted a slice at a time where their precision is another."""

    weight: Tensor
    dtype: torch.dtype

    def __iter__(self) -> Any:
        step = self.weight.shape[0] if self.weight.dtype == self.dtype else SLICE_ENTRIES
        for start in range(0, self.weight.shape[0], step):
            at = slice(start, start + step)
            yield at, self.weight[at].to(self.dtype)


class _FusedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_PD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_P: Tensor,
        scale: float,
        softcap: float | None,
        compute: torch.dtype,
    ) -> Tensor:
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        exact = torch.float64 if compute == torch.float64 else torch.float32
        gradients = _Gradients(
            torch.zeros_like(hidden_PD, dtype=exact) if wants_hidden else None,
            torch.zeros_like(weight_VD, dtype=exact) if wants_weight else None,
            torch.zeros_like(bias_V, dtype=exact) if bias_V is not None and wants_bias else None,
        )
        head = LMHead(weight_VD, bias_V, scale, softcap)
        loss = torch.zeros((), dtype=exact, device=hidden_PD.device)
        rows = max(16, CHUNK_BYTES // (4 * weight_VD.shape[0]))
        with exact_float32(), torch.autocast(hidden_PD.device.type, enabled=False):
            for start in range(0, hidden_PD.shape[0], rows):
                at = slice(start, start + rows)
                loss += _chunk(hidden_PD[at].to(compute), head, targets_P[at], gradients, at)
        ctx.save_for_backward(
            *(
                None if gradient is None or tensor is None else gradient.to(tensor.dtype)
                for gradient, tensor in zip(gradients, (hidden_PD, weight_VD, bias_V), strict=True)
            )
        )
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] -- torch's stub
        factor = grad_outputs[0]
        gradients = [None if g is None else g * factor.to(g.dtype) for g in ctx.saved_tensors]
        return *gradients, None, None, None, None


class _Gradients(NamedTuple):
    """Where gradients are summed, in float32 or better; None where none is wanted."""

    hidden: Tensor | None
    """[P, D]"""
    weight: Tensor | None
    """[V, D]"""
    bias: Tensor | None
    """[V]"""

    @property
    def wanted(self) -> bool:
        return any(gradient is not None for gradient in self)


def _chunk(hidden_PD: Tensor, head: LMHead, targets_P: Tensor, into: _Gradients, at: slice) -> Tensor:
    """Summed loss of the positions `at`; adds their gradients."""
    slices = _Slices(head.weight, hidden_PD.dtype)
    exact = torch.float64 if hidden_PD.dtype == torch.float64 else torch.float32
    logits_PV = torch.empty(hidden_PD.shape[0], head.weight.shape[0], dtype=exact, device=hidden_PD.device)
    for part, weight in slices:
        logits_PV[:, part] = _product(hidden_PD, weight.T)
    if head.bias is not None:
        logits_PV += head.bias.to(exact)
    head.adjust(logits_PV)
    gold_P = targets_P.unsqueeze(1)
    gold_logit_P = logits_PV.gather(1, gold_P)
    slope_PV = None
    if into.wanted and head.softcap is not None:  # d softcap·tanh(x / softcap) / dx = 1 - tanh²
        slope_PV = 1 - (logits_PV / head.softcap) ** 2
    top_P = logits_PV.amax(dim=1, keepdim=True)
    e_PV = logits_PV.sub_(top_P).exp_()
    Z_P = e_PV.sum(dim=1, keepdim=True)
    loss = (Z_P.log() + top_P - gold_logit_P).sum()
    if not into.wanted:
        return loss
    grad_PV = e_PV.div_(Z_P)
    grad_PV.scatter_add_(1, gold_P, torch.full_like(gold_P, -1, dtype=exact))
    if slope_PV is not None:
        grad_PV.mul_(slope_PV)
    if head.scale != 1.0:
        grad_PV.mul_(head.scale)
    if into.bias is not None:
        into.bias.add_(grad_PV.sum(dim=0))
    grad_PV = grad_PV.to(hidden_PD.dtype)
    for part, weight in slices:
        if into.hidden is not None:
            into.hidden[at] += _product(grad_PV[:, part], weight)
        if into.weight is not None:
            into.weight[part] += _product(grad_PV[:, part].T, hidden_PD)
    return loss


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, summed in float32 or better."""
    if a.device.type == "cuda" and a.dtype in (torch.bfloat16, torch.float16):
        return torch.mm(a, b, out_dtype=torch.float32)
    return a @ b
