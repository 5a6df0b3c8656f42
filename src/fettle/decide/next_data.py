"""What data to add next, or to look at, from what the model fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fettle.decide.patterns import PatternResult, cell_results, pattern_results, recorded_patterns
from fettle.metrics.patterns import PatternMatrix
from fettle.runs.records import OTHER, SampleResults


@dataclass(frozen=True, slots=True)
class NextData:
    """What to add to the training data, or to look at in it."""

    pattern: str
    length: str | None
    """Bin of answer tokens where the pattern fails most; None where no length stands out."""
    action: str
    """`add` more examples, or `inspect` those that are there."""
    tokens_low: int | None
    """Length of the failing answers, in completion tokens (10th and 90th percentile)."""
    tokens_high: int | None
    train_share: float | None
    """Share of the pattern, at this length, in the training data; None where it was not counted."""
    text: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def recommend_data(
    chosen: SampleResults,
    weak: PatternResult,
    first: PatternMatrix | None,
    metadata: Mapping[str, Any] | None,
) -> NextData:
    """What the next run's data should hold more of: `weak` is a pattern, or a pattern at one length.

    Where it is well represented in training and never moved since the first eval, more of the same
    will not help: then the advice is to look at its examples.
    """
    low, high = _failing_lengths(chosen, weak.pattern)
    counts = train_counts(metadata)
    share = train_share(counts, weak.pattern, weak.length)
    # What each kind would have if all had alike.
    fair = 1 / max(1, len(counts) if weak.length else len({name for name, _ in counts}))
    kind, length = _kind(weak, chosen), _length(weak, low, high)
    score = f"{100 * weak.exact_match:.0f} % EM"
    if share is not None and share >= fair and not _moved(first, weak):
        text = (
            f"Look at the {kind}examples{length if weak.length else ''}: {_percent(share)} of the training "
            f"data, and still {score}; more of the same is unlikely to help."
        )
        return NextData(weak.pattern, weak.length, "inspect", low, high, share, text)
    known = "" if share is None else f"; now {_percent(share)} of the training data"
    text = f"Next run: add {kind}examples{length} ({score}, n = {weak.n}{known})."
    return NextData(weak.pattern, weak.length, "add", low, high, share, text)


def train_counts(metadata: Mapping[str, Any] | None) -> dict[tuple[str, str], int]:
    """Training examples by (pattern, length), as metadata.json has them; empty where nobody counted."""
    cells: list[Any] = recorded_patterns(metadata).get("train") or []
    return {(str(c["pattern"]), str(c["length"])): int(c["seen"]) for c in cells}


def train_share(counts: Mapping[tuple[str, str], int], pattern: str, length: str | None) -> float | None:
    """Share of a pattern, at a length or at all (None), in training; None where nobody counted."""
    total = sum(counts.values())
    if not total:
        return None
    if length is not None:
        return counts.get((pattern, length), 0) / total
    return sum(seen for (name, _), seen in counts.items() if name == pattern) / total


def _kind(weak: PatternResult, chosen: SampleResults) -> str:
    """Nothing where the prompts were never told apart."""
    nameless = weak.pattern == OTHER and bool(np.isin(chosen.pattern, ["", OTHER]).all())
    return "" if nameless else f"'{weak.pattern}' "


def _length(weak: PatternResult, low: int | None, high: int | None) -> str:
    if weak.length is not None:
        return f" of {weak.length} tokens"
    return f" of {low}-{high} tokens" if low is not None and low != high else ""


def _failing_lengths(results: SampleResults, pattern: str) -> tuple[int | None, int | None]:
    if results.exact_match is None:
        return None, None
    names_N = np.where(results.pattern == "", OTHER, results.pattern)
    failing_N = (names_N == pattern) & ~results.exact_match
    if not failing_N.any():
        return None, None
    low, high = np.percentile(results.tokens[failing_N], [10, 90])
    return _rounded(float(low), down=True), _rounded(float(high), down=False)


def _rounded(value: float, *, down: bool) -> int:
    """To tens above 100, to hundreds above 1,000: nobody collects data to the token."""
    grain = 100 if value >= 1000 else 10 if value >= 100 else 1
    return int(value // grain * grain) if down else int(-(-value // grain) * grain)


def _moved(first: PatternMatrix | None, weak: PatternResult) -> bool:
    """Whether it got better since the first eval; unknown counts as moved."""
    before = pattern_results(first) if weak.length is None else cell_results(first, weak.pattern)
    row = next((r for r in before if (r.pattern, r.length) == (weak.pattern, weak.length)), None)
    return row is None or weak.low > row.high or weak.exact_match > row.exact_match + 0.1


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.095 or share == 0 else f"{100 * share:.1f} %"
