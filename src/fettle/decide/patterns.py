"""Which kind of prompt the model fails, with enough evidence, and what data to add next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fettle.metrics import token_cross_entropy, wilson_interval
from fettle.runs.records import FixedEval, SampleResults

SMALLEST_PATTERN = 20
"""Samples below which a kind of prompt is not judged: at n = 20 the interval is ± 20 points."""
OTHER = "other"


@dataclass(frozen=True, slots=True)
class PatternResult:
    """One kind of prompt at one eval."""

    pattern: str
    n: int
    correct: int
    exact_match: float
    low: float
    high: float
    cross_entropy: float | None
    """Nats per completion token."""
    enough: bool
    """Whether n is large enough to judge it."""

    @property
    def text(self) -> str:
        """`reasoning 67 % EM (n = 214)`, or `rare: too few (n = 7)`."""
        if not self.enough:
            return f"{self.pattern}: too few (n = {self.n})"
        return f"{self.pattern} {100 * self.exact_match:.0f} % EM (n = {self.n})"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "text": self.text}


@dataclass(frozen=True, slots=True)
class NextData:
    """What to add to the training data, or to look at in it."""

    pattern: str
    action: str
    """`add` more examples, or `inspect` those that are there."""
    tokens_low: int | None
    """Length of the failing answers, in completion tokens (10th and 90th percentile)."""
    tokens_high: int | None
    train_share: float | None
    """Share of the pattern in the training data; None where it was not counted."""
    text: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def pattern_results(results: SampleResults | None, smallest: int = SMALLEST_PATTERN) -> list[PatternResult]:
    """Every kind of prompt, weakest first; those too small to judge come last.

    Empty where the data names no patterns. Samples without one are `other`.
    """
    if results is None or not bool((results.pattern != "").any()):
        return []
    rows: list[PatternResult] = []
    names_N = _names(results)
    for pattern in np.unique(names_N).tolist():
        inside = names_N == pattern
        n = int(inside.sum())
        correct = int(results.exact_match[inside].sum())
        low, high = wilson_interval(correct, n) or (0.0, 1.0)
        estimate = token_cross_entropy(results.cross_entropy_sum[inside], results.tokens[inside])
        rows.append(
            PatternResult(
                pattern, n, correct, correct / n, low, high,
                estimate.value if estimate else None, n >= smallest,
            )
        )  # fmt: skip
    return sorted(rows, key=lambda r: (not r.enough, r.exact_match, -(r.cross_entropy or 0.0)))


def weakest_pattern(rows: Sequence[PatternResult]) -> PatternResult | None:
    """The weakest pattern that is weaker than the rest beyond doubt; None where none stands out.

    Judged by Fisher's exact test against all other samples together, times the number of patterns
    (the weakest was picked after the fact).
    """
    judged = [r for r in rows if r.enough]
    if len(judged) < 2:
        return None
    from scipy import stats

    weakest = judged[0]
    others = [r for r in rows if r is not weakest]
    correct, n = sum(r.correct for r in others), sum(r.n for r in others)
    table = np.array([[weakest.correct, weakest.n - weakest.correct], [correct, n - correct]])
    p_value = float(stats.fisher_exact(table, alternative="less").pvalue)
    return weakest if p_value * len(judged) < 0.05 else None


def recommend_data(
    chosen: FixedEval,
    first: FixedEval | None,
    weakest: PatternResult | None,
    metadata: Mapping[str, Any] | None,
) -> NextData | None:
    """What the next run's data should hold more of, from the weakest pattern of the chosen eval.

    Where the pattern is well represented in training and never moved, more of the same will not
    help: then the advice is to look at its examples.
    """
    if weakest is None or chosen.per_sample is None:
        return None
    low, high = _failing_lengths(chosen.per_sample, weakest.pattern)
    share, fair = _train_share(metadata, weakest.pattern)
    length = f" of {low}-{high} tokens" if low is not None and low != high else ""
    known = "" if share is None else f" (now {_percent(share)} of the training data)"
    if share is not None and fair is not None and share >= fair and not _moved(first, weakest):
        text = (
            f"Look at the '{weakest.pattern}' examples: {_percent(share)} of the training data, and still "
            f"{100 * weakest.exact_match:.0f} % EM; more of the same is unlikely to help."
        )
        return NextData(weakest.pattern, "inspect", low, high, share, text)
    text = f"Next run: add '{weakest.pattern}' examples{length}{known}."
    return NextData(weakest.pattern, "add", low, high, share, text)


def _failing_lengths(results: SampleResults, pattern: str) -> tuple[int | None, int | None]:
    failing = (_names(results) == pattern) & ~results.exact_match
    if not failing.any():
        return None, None
    low, high = np.percentile(results.tokens[failing], [10, 90])
    return _rounded(float(low), down=True), _rounded(float(high), down=False)


def _names(results: SampleResults) -> NDArray[np.str_]:
    return np.where(results.pattern == "", OTHER, results.pattern)


def _rounded(value: float, *, down: bool) -> int:
    """To tens above 100, to hundreds above 1,000: nobody collects data to the token."""
    grain = 100 if value >= 1000 else 10 if value >= 100 else 1
    return int(value // grain * grain) if down else int(-(-value // grain) * grain)


def _train_share(metadata: Mapping[str, Any] | None, pattern: str) -> tuple[float | None, float | None]:
    """Share of the pattern in training, and the share that all patterns would have alike."""
    counts = cast("Mapping[str, Any] | None", (metadata or {}).get("train_patterns"))
    if not isinstance(counts, Mapping) or not counts:
        return None, None
    numbers = {k or OTHER: float(v) for k, v in counts.items() if isinstance(v, int | float)}
    total = sum(numbers.values())
    if total <= 0:
        return None, None
    return numbers.get(pattern, 0.0) / total, 1 / len(numbers)


def _moved(first: FixedEval | None, weakest: PatternResult) -> bool:
    """Whether the pattern got better since the first eval; unknown counts as moved."""
    before = pattern_results(first.per_sample) if first is not None else []
    row = next((r for r in before if r.pattern == weakest.pattern), None)
    return row is None or weakest.low > row.high or weakest.exact_match > row.exact_match + 0.1


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.095 or share == 0 else f"{100 * share:.1f} %"
