"""Results by kind of prompt and length of the answer: seen, correct, exact match, cross-entropy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.metrics.intervals import wilson_interval
from fettle.runs.records import OTHER


@dataclass(frozen=True, slots=True)
class PatternCell:
    """Samples of one kind and length; a row total has no length, a column total no pattern."""

    pattern: str | None
    length: str | None
    """Label of the bin of answer tokens, such as `300-500`."""
    seen: int
    """Samples, at least 1."""
    correct: int
    tokens: int
    cross_entropy_sum: float
    """Nats over the completion tokens."""

    @property
    def exact_match(self) -> float:
        """Share of samples."""
        return self.correct / self.seen

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson interval of exact match, 95 %."""
        return wilson_interval(self.correct, self.seen) or (0.0, 1.0)

    @property
    def cross_entropy(self) -> float | None:
        """Nats per token; None without tokens."""
        return self.cross_entropy_sum / self.tokens if self.tokens else None

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the interval: it follows from `seen` and `correct`."""
        return {
            "pattern": self.pattern,
            "length": self.length,
            "seen": self.seen,
            "correct": self.correct,
            "exact_match": self.exact_match,
            "tokens": self.tokens,
            "cross_entropy": self.cross_entropy,
        }


@dataclass(frozen=True, slots=True)
class PatternMatrix:
    """The cells that hold samples, with their totals; what holds none is absent, not 0."""

    lengths: list[str]
    """Labels of all bins, those without samples too."""
    cells: list[PatternCell]
    """By pattern in alphabetical order, then by length."""
    patterns: list[PatternCell]
    """Row totals."""
    columns: list[PatternCell]
    """Column totals, of the bins that hold samples."""

    @property
    def seen(self) -> int:
        """All samples."""
        return sum(cell.seen for cell in self.cells)

    @property
    def balance(self) -> float | None:
        """How evenly the samples lie over patterns × bins, from 0 (one cell) to 1; see `balance`."""
        counts = [cell.seen for cell in self.cells]
        return balance(counts, len(self.patterns) * len(self.lengths))

    def cell(self, pattern: str, length: str) -> PatternCell | None:
        """One cell; None where nothing was seen."""
        return next((c for c in self.cells if c.pattern == pattern and c.length == length), None)

    def row(self, pattern: str) -> list[PatternCell]:
        """The cells of one kind, by length."""
        return [cell for cell in self.cells if cell.pattern == pattern]


def pattern_matrix(
    pattern_N: NDArray[np.str_],
    tokens_N: NDArray[np.int64],
    exact_match_N: NDArray[np.bool_],
    cross_entropy_sum_N: NDArray[np.float64],
    edges: Sequence[int],
) -> PatternMatrix:
    """Count samples by kind and length of the answer, `tokens_N`; "" counts as `other`."""
    names, pattern_index_N = np.unique(np.where(pattern_N == "", OTHER, pattern_N), return_inverse=True)
    length_N = length_bins(tokens_N, edges)
    labels = length_labels(edges)
    flat_N = pattern_index_N.reshape(-1) * len(labels) + length_N

    def table(weight_N: NDArray[Any]) -> NDArray[np.float64]:
        weights_N = np.asarray(weight_N, dtype=np.float64)
        flat = np.bincount(flat_N, weights=weights_N, minlength=names.size * len(labels))
        return flat.reshape(names.size, len(labels)).astype(np.float64)

    sums_4PL = np.stack(
        [table(np.ones(flat_N.size)), table(exact_match_N), table(tokens_N), table(cross_entropy_sum_N)]
    )
    rows: list[str] = names.tolist()
    return PatternMatrix(
        lengths=labels,
        cells=[
            cell
            for p, name in enumerate(rows)
            for b, label in enumerate(labels)
            if (cell := _cell(name, label, sums_4PL[:, p, b])) is not None
        ],
        patterns=[cell for p, name in enumerate(rows) if (cell := _cell(name, None, sums_4PL[:, p].sum(-1)))],
        columns=[
            cell
            for b, label in enumerate(labels)
            if (cell := _cell(None, label, sums_4PL[:, :, b].sum(-1))) is not None
        ],
    )


def count_patterns(
    patterns: Sequence[str], tokens_N: NDArray[np.int64], edges: Sequence[int]
) -> list[dict[str, Any]]:
    """Samples by kind and length where nothing was scored: `pattern`, `length`, `seen` of each cell."""
    labels = length_labels(edges)
    bins: list[int] = length_bins(tokens_N, edges).tolist()
    counts = Counter(zip((name or OTHER for name in patterns), bins, strict=True))
    return [{"pattern": name, "length": labels[b], "seen": n} for (name, b), n in sorted(counts.items())]


def length_bins(tokens_N: NDArray[np.int64], edges: Sequence[int]) -> NDArray[np.int64]:
    """Index of the bin of each length, [N]: bins are [0, edges[0]), [edges[0], edges[1]), ..., open above."""
    return np.searchsorted(np.asarray(edges), np.asarray(tokens_N), side="right").astype(np.int64)


def length_labels(edges: Sequence[int]) -> list[str]:
    """`0-100`, `100-300`, ..., `2000+`: a bin holds its lower end, and not its upper one."""
    starts = [0, *edges]
    return [f"{low}-{high}" for low, high in zip(starts, edges, strict=False)] + [f"{starts[-1]}+"]


def balance(counts: Sequence[int], kinds: int) -> float | None:
    """Evenness of counts over `kinds` kinds: their entropy over log(kinds) (Pielou 1966), in [0, 1].

    Kinds that are not in `counts` hold nothing. None without samples, or where there is one kind only.
    """
    total = sum(counts)
    if total <= 0 or kinds < 2:
        return None
    entropy = -sum(n / total * math.log(n / total) for n in counts if n > 0)
    return min(1.0, entropy / math.log(kinds)) + 0.0


def _cell(pattern: str | None, length: str | None, sums_4: NDArray[np.float64]) -> PatternCell | None:
    seen, correct, tokens, cross_entropy_sum = sums_4.tolist()
    if not seen:
        return None
    return PatternCell(pattern, length, int(seen), int(correct), int(tokens), cross_entropy_sum)
