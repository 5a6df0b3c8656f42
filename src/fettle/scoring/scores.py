"""What one teacher-forced pass tells, per sample and per completion token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Results of `score`, in the order of its input.

    N samples, T completion tokens of all samples one after another; the tokens
    of sample i are `offsets[i]:offsets[i + 1]`. A non-finite logit shows as NaN
    in `logprob`, `confidence` and `entropy`, and in the sum of its sample.
    """

    cross_entropy_sum: NDArray[np.float64]
    """Nats over the completion tokens of each sample, [N], summed in float64."""
    tokens: NDArray[np.int64]
    """Completion tokens of each sample, [N]."""
    exact_match: NDArray[np.bool_]
    """Whether greedy decoding reproduces the completion, [N]: the argmax is right at every
    position. False for a sample without completion tokens, whose `tokens` is 0."""
    offsets: NDArray[np.int64]
    """[N + 1]."""
    logprob: NDArray[np.float64]
    """Log-probability of each completion token in nats, [T]; its negative is the surprisal."""
    correct: NDArray[np.bool_]
    """Whether the argmax equals the token, [T]."""
    confidence: NDArray[np.float64]
    """Probability of the argmax, [T]."""
    entropy: NDArray[np.float64]
    """Entropy of the predicted distribution in nats, -Σ p log p, [T]."""
    predicted: NDArray[np.int64]
    """The argmax, [T]."""

    def __len__(self) -> int:
        return int(self.tokens.size)

    @property
    def cross_entropy(self) -> float | None:
        """Nats per completion token over all samples, weighted by tokens; None without tokens."""
        total = int(self.tokens.sum())
        return float(self.cross_entropy_sum.sum()) / total if total else None


def collect(
    offsets: NDArray[np.int64],
    targets: NDArray[np.int64],
    logprob: NDArray[np.float64],
    predicted: NDArray[np.int64],
    confidence: NDArray[np.float64],
    entropy: NDArray[np.float64],
) -> Scores:
    """Per-sample sums of per-token results."""
    correct = predicted == targets
    tokens = np.diff(offsets)
    right = np.diff(np.concatenate([[0], np.cumsum(correct)])[offsets])
    sums = np.array([logprob[a:b].sum() for a, b in zip(offsets[:-1], offsets[1:], strict=True)])
    return Scores(
        cross_entropy_sum=-sums.astype(np.float64) + 0.0,
        tokens=tokens,
        exact_match=(right == tokens) & (tokens > 0),
        offsets=offsets,
        logprob=logprob,
        correct=correct,
        confidence=confidence,
        entropy=entropy,
        predicted=predicted,
    )
