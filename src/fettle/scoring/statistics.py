"""What one position's logits say, reduced tile by tile: no logits of a whole batch ever exist."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from fettle.scoring.head import LMHead

# Positions x entries of the vocabulary. On a CPU 2 MB of float32 logits and as much of their
# exponentials stay in the cache; elsewhere 32 MB each keep a device busy.
CPU_TILE = (256, 2048)
DEVICE_TILE = (1024, 8192)

# exp(x) is used as it is while the largest logit lies within these bounds: e^±40 over any
# vocabulary is far from the limits of float32, and a pass over the tile is saved.
UNSHIFTED = 40.0


class TokenStatistics(NamedTuple):
    """Per position, [P], on the CPU; float64 but for the ids.

    NaN where a logit was NaN or +inf; the ids say nothing there.
    """

    logprob: Tensor
    """Log-probability of the target in nats."""
    predicted: Tensor
    """The argmax; of equal logits the first, as in `torch.argmax`."""
    confidence: Tensor
    """Probability of the argmax."""
    entropy: Tensor
    """-Σ p log p in nats."""


@torch.no_grad()
def token_statistics(hidden_PD: Tensor, head: LMHead, targets_P: Tensor) -> TokenStatistics:
    """Statistics of the distribution that `head` predicts from each hidden state.

    Products and sums are float32 whatever the weights are. Scratch is one tile
    of logits, one of exponentials and one slice of the weights.
    """
    rows, columns = CPU_TILE if hidden_PD.device.type == "cpu" else DEVICE_TILE
    online = _Online(targets_P)
    native = _accumulates_natively(hidden_PD, head.weight)
    with exact_float32(), torch.autocast(hidden_PD.device.type, enabled=False):
        hidden_PD = hidden_PD if native else hidden_PD.float()
        for v in range(0, head.weight.shape[0], columns):
            weight_VD = head.weight[v : v + columns]
            weight_VD = weight_VD if native else weight_VD.float()
            bias_V = None
            if head.bias is not None:  # an entry that is masked by a bias of -inf would make 0 · inf
                bias_V = head.bias[v : v + columns].float().clamp(min=-1e30)
            for p in range(0, hidden_PD.shape[0], rows):
                at = slice(p, p + rows)
                if native:
                    x_PV = torch.mm(hidden_PD[at], weight_VD.T, out_dtype=torch.float32)
                else:
                    x_PV = hidden_PD[at] @ weight_VD.T
                if bias_V is not None:
                    x_PV += bias_V
                online.add(head.adjust(x_PV), at, first_entry=v)
    return online.result()


def logit_statistics(logits_PV: Tensor, targets_P: Tensor) -> TokenStatistics:
    """The same from logits that exist already."""
    online = _Online(targets_P)
    for p in range(0, logits_PV.shape[0], 64):
        at = slice(p, p + 64)
        online.add(logits_PV[at].to(torch.float32, copy=True), at, first_entry=0)
    return online.result()


def joined(parts: list[TokenStatistics]) -> TokenStatistics:
    """Statistics of positions one after another."""
    return TokenStatistics(*(torch.cat(column) for column in zip(*parts, strict=True)))


@contextmanager
def exact_float32() -> Generator[None]:
    """Products of float32 in float32: no TF32 and no bfloat16 in their place, whatever was set."""
    precision = torch.get_float32_matmul_precision()
    if precision == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)


def _accumulates_natively(hidden: Tensor, weight: Tensor) -> bool:
    """Whether a GPU multiplies half-precision numbers exactly and sums them in float32 at full rate."""
    half = (torch.bfloat16, torch.float16)
    return hidden.device.type == "cuda" and hidden.dtype == weight.dtype and hidden.dtype in half


class _Online:
    """Running sums over slices of the vocabulary (the online softmax of Milakov & Gimelshein 2018).

    With a shift r per position, x' = x - r: m = max x', Z = Σ e^x', S = Σ e^x'·x'. Then
    log p = x' - log Z and H = log Z - S/Z, whatever r is; it only keeps e^x' in range.
    """

    def __init__(self, targets_P: Tensor) -> None:
        P, device = targets_P.shape[0], targets_P.device
        self.targets = targets_P
        self.r = torch.zeros(P, device=device)
        self.m = torch.full((P,), -torch.inf, device=device)
        self.Z = torch.zeros(P, device=device)
        self.S = torch.zeros(P, device=device)
        self.gold = torch.full((P,), -torch.inf, device=device)
        self.argmax = torch.zeros(P, dtype=torch.long, device=device)

    def add(self, x_PV: Tensor, at: slice, first_entry: int) -> None:
        """Take in the logits of positions `at` for entries from `first_entry` on; overwrites them."""
        shifted = bool(self.r[at].any())
        if shifted:
            x_PV -= self.r[at].unsqueeze(1)
        top_P = x_PV.amax(dim=1)
        self._raise_maximum(x_PV, top_P, at, first_entry)
        if bool(((self.m[at] > UNSHIFTED) | (self.m[at] < -UNSHIFTED)).any()):
            x_PV -= self._shift(at).unsqueeze(1)
        self._pick_targets(x_PV, at, first_entry)
        e_PV = x_PV.exp()
        self.Z[at] += e_PV.sum(dim=1)
        self.S[at] += x_PV.mul_(e_PV).sum(dim=1)

    def _raise_maximum(self, x_PV: Tensor, top_P: Tensor, at: slice, first_entry: int) -> None:
        # NaN must win over everything, so that it shows in the end.
        higher_P = (top_P > self.m[at]) | top_P.isnan()
        if x_PV.device.type == "cpu":
            # An argmax costs ten times a maximum: look only where the maximum rose.
            rows = higher_P.nonzero().squeeze(1)
            if rows.numel():
                self.argmax[at][rows] = x_PV[rows].argmax(dim=1) + first_entry
        else:
            self.argmax[at] = torch.where(higher_P, x_PV.argmax(dim=1) + first_entry, self.argmax[at])
        self.m[at] = torch.where(higher_P, top_P, self.m[at])

    def _shift(self, at: slice) -> Tensor:
        """Move r to the maximum where that left the bounds; returns by how much it moved, [P]."""
        m, Z, S = self.m[at], self.Z[at], self.S[at]
        move = torch.where((m.abs() > UNSHIFTED) & m.isfinite(), m, 0.0)
        shrink = (-move).exp()
        # Where nothing was summed yet, e^-move may be infinite.
        self.S[at] = torch.where(Z > 0, shrink * (S - move * Z), S)
        self.Z[at] = torch.where(Z > 0, shrink * Z, Z)
        self.m[at] -= move
        self.gold[at] -= move
        self.r[at] += move
        return move

    def _pick_targets(self, x_PV: Tensor, at: slice, first_entry: int) -> None:
        local = self.targets[at] - first_entry
        inside = (local >= 0) & (local < x_PV.shape[1])
        picked = x_PV.gather(1, local.clamp(0, x_PV.shape[1] - 1).unsqueeze(1)).squeeze(1)
        self.gold[at] = torch.where(inside, picked, self.gold[at])

    def result(self) -> TokenStatistics:
        # On the CPU: not every device has float64. Differences of numbers near 40 would
        # otherwise lose two digits.
        gold, m, total, S = (column.cpu().double() for column in (self.gold, self.m, self.Z, self.S))
        total = torch.where(total.isfinite() & m.isfinite(), total, torch.nan)
        log_Z = total.log()
        return TokenStatistics(
            logprob=(gold - log_Z).clamp(max=0.0),
            predicted=self.argmax.cpu(),
            confidence=(m - log_Z).exp().clamp(max=1.0),
            entropy=(log_Z - S / total).clamp(min=0.0),
        )
