"""Paired comparisons: the same samples before and after, difference by difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fettle.runs.records import FixedEval, SampleResults

Metric = Literal["exact_match", "cross_entropy"]
Floats = NDArray[np.float64]

RESAMPLES = 4_000
RESAMPLED_AT_ONCE = 8_000_000
"""Signs held at a time: 32 MB."""
SMALLEST_OVERLAP = 0.5
"""Share of the last eval's samples that another must hold to be compared with it."""


@dataclass(frozen=True, slots=True, eq=False)
class PairedPath:
    """One metric of the same samples at K evals, in order of steps.

    The value of eval k is Σ_i values[i, k] / Σ_i weights[i].
    """

    steps: list[int]
    values: Floats
    """Exact match as 0 and 1, or summed nats, [N, K]."""
    weights: Floats
    """1 for exact match, completion tokens for cross-entropy, [N]."""
    sample_id: NDArray[np.str_]
    """Content hash of each sample, [N]."""

    @property
    def samples(self) -> int:
        """Number of shared samples."""
        return int(self.weights.size)

    @property
    def means(self) -> Floats:
        """The metric at every eval, [K]."""
        return self.values.sum(0) / self.weights.sum()

    def contrast(self, coefficients_K: Floats) -> tuple[float, float]:
        """Value and standard error of Σ_k c_k · metric_k, over samples (linearised ratio)."""
        contrast_N = self.values @ coefficients_K
        total = float(self.weights.sum())
        value = float(contrast_N.sum()) / total
        residual_N = contrast_N - value * self.weights
        n = self.samples
        error = math.sqrt(n / (n - 1) * float(residual_N @ residual_N)) / total if n > 1 else math.inf
        return value, error

    def difference(self, later: int, earlier: int) -> tuple[float, float]:
        """Metric at eval `later` minus metric at eval `earlier` (positions), and its standard error."""
        coefficients_K = np.zeros(len(self.steps))
        coefficients_K[later] += 1.0
        coefficients_K[earlier] -= 1.0
        return self.contrast(coefficients_K)


@dataclass(frozen=True, slots=True, eq=False)
class SampleValues:
    """One number a sample, and how much each sample weighs."""

    sample_id: NDArray[np.str_]
    """Content hash of each sample, [N]."""
    values: Floats
    """[N]; NaN where a sample was not measured."""
    weights: Floats
    """[N]; the whole is worth Σ values / Σ weights."""


def sample_values(results: SampleResults, metric: Metric) -> SampleValues:
    """Exact match as 0 and 1, all samples alike; or summed nats, weighted by completion tokens."""
    if metric == "exact_match":
        if results.exact_match is None:
            right = np.full(results.tokens.size, np.nan)
        else:
            right = results.exact_match.astype(np.float64)
        return SampleValues(results.sample_id, right, np.ones_like(right))
    sums, tokens = results.cross_entropy_sum, results.tokens
    return SampleValues(results.sample_id, sums.astype(np.float64), tokens.astype(np.float64))


def pair(evals: Sequence[FixedEval], metric: Metric) -> PairedPath | None:
    """Shared samples of the evals that hold per-sample results, matched by sample id.

    Evals that share less than half of the last one's samples belong to another set and are left
    out. None where nothing can be paired.
    """
    told = [e for e in evals if e.per_sample is not None and getattr(e, metric) is not None]
    told = [e for e in told if e.per_sample is not None and e.per_sample.tokens.size > 0]
    tables = [sample_values(e.per_sample, metric) for e in told if e.per_sample is not None]
    return pair_values([e.step for e in told], tables)


def measured(tables: Sequence[SampleValues]) -> list[int]:
    """Places of the tables that hold any value: one without says nothing, and would hide the others."""
    return [k for k, table in enumerate(tables) if np.isfinite(table.values).any()]


def pair_values(steps: Sequence[int], tables: Sequence[SampleValues]) -> PairedPath | None:
    """The same for tables of samples, each at its step; the weights are those of the last table."""
    if not tables:
        return None
    kept, rows = _match(tables)
    if len(rows[0]) == 0:
        return None
    columns = [tables[k].values[r] for k, r in zip(kept, rows, strict=True)]
    last = tables[kept[-1]]
    weights_N = last.weights[rows[-1]]
    usable_N = np.isfinite(np.stack(columns, 1)).all(1) & (weights_N > 0)
    if not usable_N.any():
        return None
    values_NK = np.stack(columns, 1)[usable_N]
    sample_id_N = last.sample_id[rows[-1]][usable_N]
    return PairedPath([steps[k] for k in kept], values_NK, weights_N[usable_N], sample_id_N)


def _match(tables: Sequence[SampleValues]) -> tuple[list[int], list[NDArray[np.int64]]]:
    """Positions of the comparable tables, and the rows of each that all of them share."""
    last = tables[-1].sample_id
    everything = np.arange(last.size)
    if all(np.array_equal(t.sample_id, last) for t in tables):
        return list(range(len(tables))), [everything] * len(tables)
    ids = [_unique_ids(t.sample_id) for t in tables]
    index = {key: i for i, key in enumerate(ids[-1])}
    found = [np.array([index.get(key, -1) for key in table], dtype=np.int64) for table in ids]
    kept = [k for k, f in enumerate(found) if np.count_nonzero(f >= 0) >= SMALLEST_OVERLAP * last.size]
    shared = np.ones(last.size, dtype=np.bool_)
    for k in kept:
        here = np.zeros(last.size, dtype=np.bool_)
        here[found[k][found[k] >= 0]] = True
        shared &= here
    rows: list[NDArray[np.int64]] = []
    for k in kept:
        row_of = np.full(last.size, -1, dtype=np.int64)
        row_of[found[k][found[k] >= 0]] = np.flatnonzero(found[k] >= 0)
        rows.append(row_of[shared])
    return kept, rows


def _unique_ids(sample_id: NDArray[np.str_]) -> list[tuple[str, int]]:
    """A text that stands twice in the set is matched first with first, second with second."""
    seen: dict[str, int] = {}
    keys: list[tuple[str, int]] = []
    for name in sample_id.tolist():
        seen[name] = seen.get(name, -1) + 1
        keys.append((name, seen[name]))
    return keys


def mcnemar(lost: int, gained: int) -> float:
    """One-sided exact p-value that losses outweigh gains (McNemar 1947): P(gains ≤ gained), 1/2 each."""
    from scipy import special

    if lost + gained == 0:
        return 1.0
    return float(special.bdtr(gained, lost + gained, 0.5))


def worse_than_each(path: PairedPath, lower_is_better: bool) -> tuple[Floats, Floats]:
    """How much worse the last eval is than each before it: z and marginal p, each [K - 1].

    z = Σd / sqrt(Σd²) over the samples' differences, which is McNemar's statistic for exact match.
    The p-value is McNemar's exact one for exact match, the normal one for cross-entropy.
    """
    from scipy import special

    worse_NJ = path.values[:, :-1] - path.values[:, -1:]
    if lower_is_better:
        worse_NJ = -worse_NJ
    scale_J = np.sqrt((worse_NJ**2).sum(0))
    z_J = np.divide(worse_NJ.sum(0), scale_J, out=np.zeros_like(scale_J), where=scale_J > 0)
    if lower_is_better:
        return z_J, np.asarray(special.ndtr(-z_J), dtype=np.float64)
    lost_J = (worse_NJ > 0).sum(0)
    gained_J = (worse_NJ < 0).sum(0)
    return z_J, np.array([mcnemar(int(b), int(c)) for b, c in zip(lost_J, gained_J, strict=True)])


def max_t(path: PairedPath, *, seed: int = 0, resamples: int = RESAMPLES) -> Floats:
    """Largest z of the last eval against any before it, were they all equal, sorted, [resamples].

    Under that hypothesis the sign of each sample's differences is a coin flip. Flipping a sample's
    whole row keeps how the comparisons hang together, which is what makes the maximum the right
    yardstick for "last against best so far" (Westfall and Young 1993): the best was picked after
    the fact. All resamples are one matrix product.
    """
    difference_NJ = path.values[:, :-1] - path.values[:, -1:]
    return largest_under_flips(difference_NJ, seed=seed, resamples=resamples)


def largest_under_flips(
    difference_NJ: Floats, *, seed: int = 0, resamples: int = RESAMPLES, both_sides: bool = False
) -> Floats:
    """Largest z = Σεd / sqrt(Σd²) of J columns with a random sign ε for each row, sorted, [resamples].

    `both_sides` takes the largest |z|.
    """
    scale_J = np.sqrt((difference_NJ**2).sum(0))
    moving_J = scale_J > 0
    if not moving_J.any():
        return np.zeros(resamples)
    unit_NJ = (difference_NJ[:, moving_J] / scale_J[moving_J]).astype(np.float32)
    flips = np.random.default_rng(seed)
    rows = max(1, min(resamples, RESAMPLED_AT_ONCE // len(unit_NJ)))
    blocks: list[NDArray[np.float32]] = []
    for done in range(0, resamples, rows):
        z_BJ = _flipped(unit_NJ, min(rows, resamples - done), flips)
        blocks.append((np.abs(z_BJ) if both_sides else z_BJ).max(1))
    return np.sort(np.concatenate(blocks)).astype(np.float64)


def _flipped(unit_NJ: NDArray[np.float32], rows: int, flips: np.random.Generator) -> NDArray[np.float32]:
    n = unit_NJ.shape[0]
    bits = np.frombuffer(flips.bytes((rows * n + 7) // 8), dtype=np.uint8)
    bits_BN = np.unpackbits(bits, count=rows * n).reshape(rows, n).astype(np.float32)
    # Σ ε·d with ε = 2·bit - 1, without a second pass over the large matrix.
    return 2.0 * (bits_BN @ unit_NJ) - unit_NJ.sum(0)
