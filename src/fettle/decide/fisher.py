"""Fisher's exact test, without the half second and 50 MB that scipy.stats takes to load."""

from __future__ import annotations

from math import exp, fsum, lgamma


def fisher_less(correct: int, n: int, other_correct: int, other_n: int) -> float:
    """One-sided p-value that a group of `n` has a smaller share of successes than the other group.

    P(X ≤ correct) of the hypergeometric distribution with both totals fixed (Fisher 1935).
    """
    total, successes = n + other_n, correct + other_correct
    least = max(0, n - (total - successes))
    every = _log_choose(total, n)
    terms = (
        exp(_log_choose(successes, k) + _log_choose(total - successes, n - k) - every)
        for k in range(least, correct + 1)
    )
    return min(1.0, fsum(terms))


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
