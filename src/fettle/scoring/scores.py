"""What one teacher-forced pass tells, per sample and per completion token."""

from __future__ import annotations

from collections.abc import Sequence as Collection
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Results of `score`, in the order of its input.

    N samples, T completion tokens of all samples one after another; the tokens
    of sample i are `offsets[i]:offsets[i + 1]`. A token whose logits were not
    finite has NaN in `logprob`, `confidence` and `entropy`, and so has the sum
    of its sample; it is not `correct`.
    """

    cross_entropy_sum: NDArray[np.float64]
    """Nats over the completion tokens of each sample, [N], summed in float64.

    0.0 for a sample without completion tokens, of which `tokens` tells.
    """
    tokens: NDArray[np.int64]
    """Completion tokens of each sample, [N].

    Samples with 0 were not measured: leave them out of every mean.
    """
    exact_match: NDArray[np.bool_]
    """Whether greedy decoding reproduces the completion, [N]: the argmax is right at every position.

    False where `tokens` is 0, which is no answer rather than a wrong one.
    """
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
    """The argmax, [T]; of equal logits the first."""

    def __len__(self) -> int:
        return int(self.tokens.size)

    @property
    def cross_entropy(self) -> float | None:
        """Nats per completion token over all samples, weighted by tokens; None without tokens."""
        total = int(self.tokens.sum())
        return float(self.cross_entropy_sum.sum()) / total if total else None

    def select(self, samples: Collection[int] | NDArray[np.int64]) -> Scores:
        """The scores of some samples, in the order given."""
        chosen = np.asarray(samples, dtype=np.int64)
        tokens = self.tokens[chosen]
        at_T = token_positions(self.offsets, chosen)
        return Scores(
            cross_entropy_sum=self.cross_entropy_sum[chosen],
            tokens=tokens,
            exact_match=self.exact_match[chosen],
            offsets=np.concatenate([[0], np.cumsum(tokens)]),
            logprob=self.logprob[at_T],
            correct=self.correct[at_T],
            confidence=self.confidence[at_T],
            entropy=self.entropy[at_T],
            predicted=self.predicted[at_T],
        )


def concatenate(parts: Collection[Scores]) -> Scores:
    """Scores of several sets of samples, one after another."""
    tokens = np.concatenate([part.tokens for part in parts])
    return Scores(
        cross_entropy_sum=np.concatenate([part.cross_entropy_sum for part in parts]),
        tokens=tokens,
        exact_match=np.concatenate([part.exact_match for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(tokens)]),
        logprob=np.concatenate([part.logprob for part in parts]),
        correct=np.concatenate([part.correct for part in parts]),
        confidence=np.concatenate([part.confidence for part in parts]),
        entropy=np.concatenate([part.entropy for part in parts]),
        predicted=np.concatenate([part.predicted for part in parts]),
    )


def token_positions(offsets: NDArray[np.int64], samples: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the tokens of some samples stand among all tokens, sample after sample."""
    empty = np.zeros(0, dtype=np.int64)
    return np.concatenate([empty, *(np.arange(int(offsets[i]), int(offsets[i + 1])) for i in samples)])


def collect(
    targets_T: NDArray[np.int64],
    offsets: NDArray[np.int64],
    logprob_T: NDArray[np.float64],
    predicted_T: NDArray[np.int64],
    confidence_T: NDArray[np.float64],
    entropy_T: NDArray[np.float64],
) -> Scores:
    """Per-sample results from per-token ones; `targets_T` are the completion tokens themselves."""
    correct_T = (predicted_T == targets_T) & ~np.isnan(confidence_T)
    tokens = np.diff(offsets)
    right = np.diff(np.concatenate([[0], np.cumsum(correct_T)])[offsets])
    # One sum a sample: differences of a running sum would carry a NaN on, and lose digits.
    sums = [-logprob_T[start:stop].sum() for start, stop in pairwise(offsets)]
    return Scores(
        cross_entropy_sum=np.array(sums, dtype=np.float64) + 0.0,
        tokens=tokens,
        exact_match=(right == tokens) & (tokens > 0),
        offsets=offsets,
        logprob=logprob_T,
        correct=correct_T,
        confidence=confidence_T,
        entropy=entropy_T,
        predicted=predicted_T,
    )
