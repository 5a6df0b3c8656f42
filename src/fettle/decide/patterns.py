"""Which kind of prompt, and which length of answer, the model fails, with enough evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from fettle.decide.fisher import fisher_less
from fettle.metrics.patterns import PatternCell, PatternMatrix, pattern_matrix
from fettle.runs.records import OTHER, SampleResults

SMALLEST_PATTERN = 20
"""Samples below which a kind of prompt is not judged: at n = 20 the interval is ± 20 points."""


@dataclass(frozen=True, slots=True)
class PatternResult:
    """One kind of prompt at one eval, or one length of its answers."""

    pattern: str
    length: str | None
    """Label of a bin of answer tokens; None is all lengths."""
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
        """`reasoning 67 % EM (n = 214)`, with the length where there is one, or `rare: too few (n = 7)`."""
        name = self.pattern if self.length is None else f"{self.pattern}, {self.length} tokens"
        if not self.enough:
            return f"{name}: too few (n = {self.n})"
        return f"{name} {100 * self.exact_match:.0f} % EM (n = {self.n})"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "text": self.text}


def results_by_pattern(
    results: SampleResults | None, metadata: Mapping[str, Any] | None
) -> PatternMatrix | None:
    """The table of one eval, with the bins of lengths that the run was recorded with."""
    if results is None or results.exact_match is None or not results.tokens.size:
        return None
    return pattern_matrix(
        results.pattern,
        results.tokens,
        results.exact_match,
        results.cross_entropy_sum,
        length_edges(metadata),
    )


def pattern_results(matrix: PatternMatrix | None) -> list[PatternResult]:
    """Every kind of prompt, weakest first; those too small to judge come last.

    Empty where all prompts are `other`: then the kinds were not told apart.
    """
    if matrix is None or all(cell.pattern == OTHER for cell in matrix.patterns):
        return []
    return _weakest_first(matrix.patterns)


def cell_results(matrix: PatternMatrix | None, pattern: str | None = None) -> list[PatternResult]:
    """Every cell of pattern × length, or of one pattern, in the same order."""
    cells = [] if matrix is None else matrix.cells if pattern is None else matrix.row(pattern)
    return _weakest_first(cells)


def weakest_pattern(rows: Sequence[PatternResult]) -> PatternResult | None:
    """The weakest pattern that is weaker than the rest beyond doubt; None where none stands out.

    Judged by Fisher's exact test against all other samples together, times the number of patterns
    (the weakest was picked after the fact).
    """
    return _standing_out(rows, others=0)


def weak_cell(matrix: PatternMatrix | None, pattern: str | None) -> PatternResult | None:
    """The length at which a pattern is weaker than at its other lengths, beyond doubt.

    Without a pattern that stands out (None), the cell that is weaker than all others; the test
    then pays for the patterns that were looked at before.
    """
    looked_at = 0 if pattern is not None else sum(row.enough for row in pattern_results(matrix))
    return _standing_out(cell_results(matrix, pattern), others=looked_at)


def _standing_out(rows: Sequence[PatternResult], *, others: int) -> PatternResult | None:
    """The first of `rows` (weakest first) by Fisher's test, corrected for all that was tested."""
    judged = [row for row in rows if row.enough]
    if not judged or len(rows) < 2 or (others == 0 and len(judged) < 2):
        return None
    weakest = judged[0]
    rest = [row for row in rows if row is not weakest]
    correct, n = sum(row.correct for row in rest), sum(row.n for row in rest)
    p_value = fisher_less(weakest.correct, weakest.n, correct, n)
    return weakest if p_value * (len(judged) + others) < 0.05 else None


def _weakest_first(cells: Sequence[PatternCell]) -> list[PatternResult]:
    rows = [
        PatternResult(
            cell.pattern or OTHER, cell.length, cell.seen, cell.correct, cell.exact_match,
            *cell.interval, cell.cross_entropy, cell.seen >= SMALLEST_PATTERN,
        )
        for cell in cells
    ]  # fmt: skip
    return sorted(rows, key=lambda r: (not r.enough, r.exact_match, -(r.cross_entropy or 0.0)))


def recorded_patterns(metadata: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What metadata.json says of patterns: `length_bins`, and `train`, the cells of the training data."""
    recorded: Any = (metadata or {}).get("patterns")
    return cast("Mapping[str, Any]", recorded) if isinstance(recorded, Mapping) else {}


def length_edges(metadata: Mapping[str, Any] | None) -> Sequence[int]:
    """Where the bins of lengths end: as the run was recorded with, else the usual ones."""
    recorded = recorded_patterns(metadata).get("length_bins")
    if recorded:
        return cast("list[int]", recorded)
    from fettle.config.patterns import LENGTH_BINS

    return LENGTH_BINS
