"""The LM head, without ever forming logits of a whole batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

# 512 positions x 8,192 entries of the vocabulary: 16 MB of float32 logits, which together with
# the exponentials stay near the cache and keep matrix products at full rate.
TILE_POSITIONS = 512
TILE_VOCABULARY = 8192


@dataclass(frozen=True, slots=True)
class LMHead:
    """From hidden states to logits: softcap · tanh(scale · (h Wᵀ + b) / softcap)."""

    weight: Tensor
    """[V, D]"""
    bias: Tensor | None = None
    """[V]"""
    scale: float = 1.0
    softcap: float | None = None

    def adjust(self, logits: Tensor) -> Tensor:
        """Scale and soft-cap raw logits in place."""
        if self.scale != 1.0:
            logits.mul_(self.scale)
        if self.softcap is not None:
            logits.div_(self.softcap).tanh_().mul_(self.softcap)
        return logits


class TokenStatistics(NamedTuple):
    """Per position, [P], float32 but for the ids."""

    logprob: Tensor
    predicted: Tensor
    confidence: Tensor
    entropy: Tensor


def unwrapped(model: Any) -> Any:
    """The `PreTrainedModel` inside a PeftModel, adapters still in place; the model itself otherwise."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def locate_head(model: Any) -> LMHead | None:
    """The head of a causal LM as a recipe; None where it is more than a linear layer."""
    base = unwrapped(model)
    layer = base.get_output_embeddings()
    if type(layer) is not nn.Linear:
        return None
    config: Any = base.config.get_text_config()
    scale = 1.0
    if (scaling := getattr(config, "logits_scaling", None)) is not None:  # Granite divides
        scale = 1.0 / float(scaling)
    elif (factor := getattr(config, "logit_scale", None)) is not None:  # Cohere multiplies
        scale = float(factor)
    softcap = getattr(config, "final_logit_softcapping", None)  # Gemma 2
    return LMHead(layer.weight, layer.bias, scale, None if softcap is None else float(softcap))


@torch.no_grad()
def token_statistics(hidden_PD: Tensor, head: LMHead, targets_P: Tensor) -> TokenStatistics:
    """Log-probability of the target, argmax, its probability and the entropy, at every position.

    Tiles of positions x vocabulary are reduced online: m = max, Z = Σ e^(x-m),
    S = Σ e^(x-m)·(x-m), so that log p = x - m - log Z and H = log Z - S/Z.
    Products and sums are float32 whatever the weights are; of equal logits the
    first wins, as in `torch.argmax`.
    """
    positions, device = hidden_PD.shape[0], hidden_PD.device
    m = torch.full((positions,), -torch.inf, device=device)
    Z, S, gold = (torch.zeros(positions, device=device) for _ in range(3))
    argmax = torch.zeros(positions, dtype=torch.long, device=device)
    hidden_PD = hidden_PD.float()
    for v in range(0, head.weight.shape[0], TILE_VOCABULARY):
        weight_VD = head.weight[v : v + TILE_VOCABULARY].float()
        bias_V = None if head.bias is None else head.bias[v : v + TILE_VOCABULARY].float()
        for p in range(0, positions, TILE_POSITIONS):
            at = slice(p, p + TILE_POSITIONS)
            x = _tile(hidden_PD[at], weight_VD, bias_V, head)
            top, top_index = x.max(dim=1)
            local = targets_P[at] - v
            inside = (local >= 0) & (local < x.shape[1])
            picked = x.gather(1, local.clamp(0, x.shape[1] - 1).unsqueeze(1)).squeeze(1)
            gold[at] = torch.where(inside, picked, gold[at])
            # NaN must win over everything, so that it shows.
            higher = (top > m[at]) | top.isnan()
            new_m = torch.where(higher, top, m[at])
            argmax[at] = torch.where(higher, top_index + v, argmax[at])
            shift = torch.where(torch.isinf(m[at]), 0.0, m[at] - new_m)
            keep = torch.where(torch.isinf(m[at]), 0.0, shift.exp())
            x.sub_(new_m.unsqueeze(1))
            e = x.exp()
            S[at] = keep * (S[at] + shift * Z[at]) + torch.linalg.vecdot(e, x)
            Z[at] = keep * Z[at] + e.sum(dim=1)
            m[at] = new_m
    log_Z = Z.log()
    return TokenStatistics(gold - m - log_Z, argmax, 1.0 / Z, log_Z - S / Z)


def _tile(hidden_PD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, head: LMHead) -> Tensor:
    with torch.autocast(hidden_PD.device.type, enabled=False):
        x = hidden_PD @ weight_VD.T if bias_V is None else torch.addmm(bias_V, hidden_PD, weight_VD.T)
    return head.adjust(x)


def logit_statistics(logits_PV: Tensor, targets_P: Tensor) -> TokenStatistics:
    """The same from logits that a model has formed itself, in chunks of positions."""
    parts: list[TokenStatistics] = []
    for p in range(0, logits_PV.shape[0], 32):
        logprobs_PV = logits_PV[p : p + 32].float().log_softmax(dim=-1)
        gold = logprobs_PV.gather(1, targets_P[p : p + 32].unsqueeze(1)).squeeze(1)
        top, index = logprobs_PV.max(dim=1)
        parts.append(
            TokenStatistics(gold, index, top.exp(), torch.special.entr(logprobs_PV.exp()).sum(dim=1))
        )
    return TokenStatistics(*(torch.cat(column) for column in zip(*parts, strict=True)))
