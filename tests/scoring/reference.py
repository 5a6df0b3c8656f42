"""The plain way to score: padded rows, logits over the whole vocabulary, log-softmax in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fettle import Sequence


@dataclass
class Plain:
    logprob: NDArray[np.float64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    entropy: NDArray[np.float64]


def random_sequences(
    count: int = 24,
    *,
    vocabulary: int = 320,
    prompt: tuple[int, int] = (2, 40),
    prefix: int = 0,
    seed: int = 0,
) -> list[Sequence]:
    """Mixed lengths; every second one begins with the same `prefix` tokens; some have two turns."""
    generator = np.random.default_rng(seed)
    shared = generator.integers(3, vocabulary, prefix)
    sequences: list[Sequence] = []
    for i in range(count):
        own, answer = int(generator.integers(*prompt)), int(generator.integers(1, 9))
        ids = generator.integers(3, vocabulary, own + answer)
        mask = np.arange(ids.size) >= own
        if i % 3 == 0:  # an earlier turn that counts, and tokens after the last that does not
            mask[1 : max(2, own // 2)] = True
            ids, mask = np.append(ids, generator.integers(3, vocabulary, 2)), np.append(mask, [False, False])
        if i % 2:
            ids, mask = np.concatenate([shared, ids]), np.concatenate([np.zeros(prefix, bool), mask])
        sequences.append(Sequence(ids, mask))
    return sequences


def plain_scores(model: Any, sequences: list[Sequence], *, side: str = "right", batch: int = 8) -> Plain:
    """Score in the order given, `batch` rows at a time, padded on one side."""
    parts: list[Plain] = []
    for start in range(0, len(sequences), batch):
        parts += _plain_batch(model, sequences[start : start + batch], side)
    return Plain(*(np.concatenate([getattr(p, name) for p in parts]) for name in Plain.__annotations__))


def _plain_batch(model: Any, sequences: list[Sequence], side: str) -> list[Plain]:
    width = max(len(s) for s in sequences)
    ids = torch.zeros(len(sequences), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    starts = [width - len(s) if side == "left" else 0 for s in sequences]
    for row, (s, start) in enumerate(zip(sequences, starts, strict=True)):
        ids[row, start : start + len(s)] = torch.from_numpy(s.input_ids)
        mask[row, start : start + len(s)] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
    results: list[Plain] = []
    for row, (s, start) in enumerate(zip(sequences, starts, strict=True)):
        at = np.flatnonzero(s.loss_mask)
        distribution = torch.distributions.Categorical(logits=logits[row, start + at - 1].double())
        target = torch.from_numpy(s.input_ids[at])
        results.append(
            Plain(
                distribution.log_prob(target).numpy(),
                logits[row, start + at - 1].argmax(dim=-1).numpy(),
                distribution.probs.amax(dim=-1).numpy(),
                distribution.entropy().numpy(),
            )
        )
    return results
