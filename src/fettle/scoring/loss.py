"""Cross-entropy at label positions: gradients are formed chunk by chunk, logits never kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fettle.scoring.head import LMHead

# Logits of one chunk, in bytes of float32: large enough for full matrix rate at 152k entries.
CHUNK_BYTES = 96 << 20


def fused_cross_entropy(hidden_PD: Tensor, head: LMHead, targets_P: Tensor) -> Tensor:
    """Sum over positions of -log p(target) in nats, differentiable in hidden states, weight and bias.

    The gradient is formed during the forward pass, one chunk of positions at a
    time (the scheme of Liger Kernel and Apple's CCE), so that memory is one
    chunk of logits and nothing is computed twice.
    """
    return _FusedCrossEntropy.apply(hidden_PD, head.weight, head.bias, targets_P, head.scale, head.softcap)  # pyright: ignore[reportReturnType]


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
    ) -> Tensor:
        wants = ctx.needs_input_grad
        grad_hidden = torch.empty_like(hidden_PD) if wants[0] else None
        grad_weight = torch.zeros_like(weight_VD, dtype=torch.float32) if wants[1] else None
        grad_bias = None
        if bias_V is not None and wants[2]:
            grad_bias = torch.zeros_like(bias_V, dtype=torch.float32)
        head = LMHead(weight_VD.to(hidden_PD.dtype), bias_V, scale, softcap)
        loss = torch.zeros((), dtype=torch.float32, device=hidden_PD.device)
        chunk = max(16, CHUNK_BYTES // (4 * weight_VD.shape[0]))
        with torch.autocast(hidden_PD.device.type, enabled=False):
            for start in range(0, hidden_PD.shape[0], chunk):
                at = slice(start, start + chunk)
                part, grad_PV = _chunk(hidden_PD[at], head, targets_P[at], gradient=any(wants[:3]))
                loss += part
                if grad_PV is None:
                    continue
                if grad_hidden is not None:
                    grad_hidden[at] = grad_PV.to(hidden_PD.dtype) @ head.weight
                if grad_weight is not None:
                    grad_weight += (grad_PV.to(hidden_PD.dtype).T @ hidden_PD[at]).float()
                if grad_bias is not None:
                    grad_bias += grad_PV.sum(dim=0)
        ctx.save_for_backward(
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight_VD.dtype),
            None if grad_bias is None or bias_V is None else grad_bias.to(bias_V.dtype),
        )
        return loss

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        gradients = [None if g is None else g * grad_outputs[0].to(g.dtype) for g in ctx.saved_tensors]
        return *gradients, None, None, None


def _chunk(
    hidden_PD: Tensor, head: LMHead, targets_P: Tensor, *, gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """Summed loss of some positions, and its gradient in the raw logits [P, V]."""
    logits_PV = (hidden_PD @ head.weight.T).float()
    if head.bias is not None:
        logits_PV += head.bias.float()
    head.adjust(logits_PV)
    gold = targets_P.unsqueeze(1)
    log_Z = torch.logsumexp(logits_PV, dim=1)
    loss = (log_Z - logits_PV.gather(1, gold).squeeze(1)).sum()
    if not gradient:
        return loss, None
    slope_PV = None if head.softcap is None else 1 - (logits_PV / head.softcap) ** 2  # of c·tanh(x/c)
    grad_PV = logits_PV.sub_(log_Z.unsqueeze(1)).exp_()
    grad_PV.scatter_add_(1, gold, torch.full_like(gold, -1, dtype=grad_PV.dtype))
    if slope_PV is not None:
        grad_PV.mul_(slope_PV)
    if head.scale != 1.0:
        grad_PV.mul_(head.scale)
    return loss, grad_PV
