"""How often sampled answers are right, and how long and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fettle.errors import ConfigError
from fettle.metrics.intervals import Estimate, wilson_interval


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Probability that at least one of k answers, drawn from `samples` of one prompt, is right, in [0, 1].

    1 - C(n - c, k) / C(n, k): unbiased, unlike looking at the first k alone (Chen et al. 2021, eq. 1).
    Raises ConfigError where k is above n, of which n answers cannot tell.
    """
    if k < 1 or k > samples:
        raise ConfigError(
            f"pass@{k} cannot be told from {samples} answers. Sample at least {k} of each prompt"
        )
    if not 0 <= correct <= samples:
        raise ValueError(f"{correct} of {samples} answers cannot be right")
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


def mean_pass_at_k(
    samples_P: Sequence[int] | NDArray[np.int64],
    correct_P: Sequence[int] | NDArray[np.int64],
    k: int,
    confidence: float = 0.95,
) -> Estimate | None:
    """Mean of pass@k over P prompts, with an interval over prompts, in [0, 1]; None without prompts.

    Answers to one prompt stand and fall together, so the prompts are what varies. `samples_P` counts the
    answers that could be judged. Raises ConfigError where a prompt has fewer than k.
    """
    pairs = zip(samples_P, correct_P, strict=True)
    return mean_share([pass_at_k(int(n), int(c), k) for n, c in pairs], confidence)


def pass_rate(
    samples_P: Sequence[int] | NDArray[np.int64],
    correct_P: Sequence[int] | NDArray[np.int64],
    confidence: float = 0.95,
) -> Estimate | None:
    """Mean over prompts of the share of right answers, which is pass@1; None where none was judged.

    A prompt without judged answers was not measured and counts for nothing.
    """
    judged = [(int(n), int(c)) for n, c in zip(samples_P, correct_P, strict=True) if n > 0]
    return mean_share([pass_at_k(n, c, 1) for n, c in judged], confidence)


def mean_share(shares_P: Sequence[float], confidence: float = 0.95) -> Estimate | None:
    """Mean of numbers in [0, 1] with Student's t over them, cut to [0, 1]; None without any.

    Where all are 0, or all are 1, their spread is 0 and says nothing: the ends are then Wilson's.
    """
    P = len(shares_P)
    if not P:
        return None
    value = math.fsum(shares_P) / P
    if set(shares_P) in ({0.0}, {1.0}):
        low, high = wilson_interval(round(value) * P, P, confidence) or (None, None)
        return Estimate(value, low, high, 0.0)
    if P < 2:
        return Estimate(value, None, None)
    from scipy import special

    variance = math.fsum((share - value) ** 2 for share in shares_P) / (P - 1)
    standard_error = math.sqrt(variance / P)
    half = float(special.stdtrit(P - 1, (1 + confidence) / 2)) * standard_error
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), standard_error)


def length_statistics(tokens_N: Sequence[int] | NDArray[np.int64]) -> dict[str, float | None]:
    """`length_mean`, `length_std`, `length_min` and `length_max` of N answers in tokens."""
    return _named("length", np.asarray(tokens_N, dtype=np.float64), ("mean", "std", "min", "max"))


def entropy_statistics(entropy_T: NDArray[np.float64]) -> dict[str, float | None]:
    """`entropy_mean`, `entropy_std`, `entropy_max` and `entropy_p95` over tokens, in nats.

    Of -Σ p log p, the Rao-Blackwell form: for answers sampled from the model as it is, its mean is that
    of the surprisal, with less noise. Tokens whose logits were not finite are left out.
    """
    return _named("entropy", entropy_T, ("mean", "std", "max", "p95"))


def surprisal_statistics(logprob_T: NDArray[np.float64]) -> dict[str, float | None]:
    """`surprisal_mean`, `surprisal_std`, `surprisal_max` and `surprisal_p95` over tokens, in nats.

    Of -log p of the tokens that were said. With top_p below 1, or another temperature than 1, it is no
    estimate of entropy: the tokens then come from another distribution than p.
    """
    return _named("surprisal", -logprob_T, ("mean", "std", "max", "p95"))


def _named(name: str, values: NDArray[np.float64], which: Sequence[str]) -> dict[str, float | None]:
    """Statistics over the finite values; all None without any. The standard deviation is of these values."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return {f"{name}_{key}": None for key in which}
    known = {
        "mean": finite.mean(),
        "std": finite.std(),
        "min": finite.min(),
        "max": finite.max(),
        "p95": np.percentile(finite, 95),
    }
    return {f"{name}_{key}": float(known[key]) for key in which}
