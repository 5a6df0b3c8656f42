"""How far the numbers of one and the same model lie apart when it is run in two ways."""

from __future__ import annotations

from collections.abc import Sequence as Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from fettle.data.sequence import Sequence
from fettle.scoring.engine import score


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """Differences between two batchings of the same weights; below them checkpoints do not differ."""

    cross_entropy: float
    """Absolute difference of the mean cross-entropy, nats per token."""
    sample: float
    """Largest absolute difference of a sample's summed cross-entropy, nats."""
    token: float
    """Largest absolute difference of a token's log-probability, nats."""
    exact_match: int
    """Samples whose exact match differs."""
    samples: int
    """Samples that were scored both ways."""


def noise_floor(
    model: Any, sequences: Collection[Sequence], *, batch_tokens: int | None = None, samples: int = 64
) -> NoiseFloor | None:
    """Score up to `samples` sequences, evenly chosen, one at a time and in batches, and compare.

    None without a completion token to compare, or where a log-probability is not finite.
    """
    scored = [sequence for sequence in sequences if sequence.completion_tokens]
    chosen = (
        [scored[int(i)] for i in np.unique(np.linspace(0, len(scored) - 1, samples).round())]
        if scored
        else []
    )
    if not chosen:
        return None
    alone = score(model, chosen, batch_tokens=1)
    together = score(model, chosen, batch_tokens=batch_tokens)
    if not (np.isfinite(alone.logprob).all() and np.isfinite(together.logprob).all()):
        return None
    sums = np.abs(alone.cross_entropy_sum - together.cross_entropy_sum)
    tokens = int(alone.tokens.sum())
    total = abs(float(alone.cross_entropy_sum.sum() - together.cross_entropy_sum.sum()))
    return NoiseFloor(
        cross_entropy=total / tokens,
        sample=float(sums.max()),
        token=float(np.abs(alone.logprob - together.logprob).max()),
        exact_match=int((alone.exact_match != together.exact_match).sum()),
        samples=len(chosen),
    )
