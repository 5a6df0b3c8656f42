"""One step of sampling: from logits to the next token, row by row, whatever stands beside it."""

from __future__ import annotations

from collections.abc import Sequence as Collection

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch import Tensor

# Entries of logits that are worked on at once: 16 MB in float64.
CHUNK_ENTRIES = 2 << 20


def uniform_stream(seed: int, prompt: Collection[int], number: int, count: int) -> NDArray[np.float64]:
    """The random numbers in [0, 1) of one answer, [count].

    They follow from the seed, the prompt's tokens and the number of the answer alone, so that neither
    the batch nor the order of prompts changes an answer.
    """
    tokens = np.asarray(prompt, dtype=np.int64).tobytes()
    key = xxhash.xxh3_128_intdigest(f"{seed} {number} ".encode() + tokens)
    return np.random.Generator(np.random.Philox(key=key)).random(count)


def entropies(logits_BV: Tensor) -> Tensor:
    """-Σ p log p of each row in nats, [B]; NaN where a logit is NaN or +inf.

    Of the distribution the model predicts: at temperature 1, nothing cut off.
    """
    parts = [_entropy(logits_BV[rows]) for rows in _chunks(logits_BV)]
    return torch.cat(parts)


def draw(logits_BV: Tensor, uniform_B: Tensor, temperature: float, top_p: float) -> Tensor:
    """Tokens drawn by inverting the cumulated distribution at a number in [0, 1) each, [B].

    Nucleus sampling (Holtzman et al. 2020): the fewest tokens whose probability reaches `top_p`, the
    likeliest first; of equal ones the lower id.
    """
    parts = [_draw(logits_BV[rows], uniform_B[rows], temperature, top_p) for rows in _chunks(logits_BV)]
    return torch.cat(parts)


def _entropy(logits_BV: Tensor) -> Tensor:
    logprob_BV = torch.log_softmax(logits_BV.float(), dim=-1)
    # A token that cannot come has p log p = 0, and 0 · -inf would be NaN.
    return -(logprob_BV.exp() * logprob_BV.clamp(min=-1e30)).sum(dim=-1)


def _draw(logits_BV: Tensor, uniform_B: Tensor, temperature: float, top_p: float) -> Tensor:
    # float32 sums over 100,000 tokens err by more than the rarest of them weighs.
    precise = torch.float32 if logits_BV.device.type == "mps" else torch.float64
    probability_BV = torch.softmax(logits_BV.to(precise) / temperature, dim=-1)
    if top_p < 1:
        sorted_BV, order_BV = probability_BV.sort(dim=-1, descending=True, stable=True)
        outside_BV = sorted_BV.cumsum(dim=-1) - sorted_BV >= top_p
        # Back in the order of ids: among sorted tokens, rounding would swap two that are nearly as
        # likely, and with them the token that a number stands for.
        probability_BV = probability_BV.masked_fill(outside_BV.scatter(1, order_BV, outside_BV), 0.0)
    cumulated_BV = probability_BV.cumsum(dim=-1)
    total_B1 = cumulated_BV[:, -1:]
    # Below the total even where the product rounds up, so that no token of probability 0 is drawn.
    below_B1 = torch.nextafter(total_B1, torch.zeros_like(total_B1))
    at_B1 = torch.minimum(uniform_B.to(precise).unsqueeze(1) * total_B1, below_B1)
    # Rows whose logits are not finite lead nowhere.
    return torch.searchsorted(cumulated_BV, at_B1, right=True).squeeze(1).clamp(max=logits_BV.shape[1] - 1)


def _chunks(logits_BV: Tensor) -> list[slice]:
    """Rows that are worked on at once."""
    rows = max(1, CHUNK_ENTRIES // logits_BV.shape[1])
    return [slice(at, at + rows) for at in range(0, logits_BV.shape[0], rows)]
