"""The held-out set as the trainer carries it, and its scores as per-sample results."""

from __future__ import annotations

from collections.abc import Sequence as Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fettle.data.example import Example
from fettle.data.sequence import Sequence
from fettle.metrics import calibration_bins
from fettle.runs.records import SampleResults

if TYPE_CHECKING:
    from fettle.scoring.scores import Scores


@dataclass(frozen=True, slots=True)
class FixedEvalSet:
    """Held-out sequences in a fixed order, with what names each of them."""

    sequences: list[Sequence]
    examples: list[Example]
    """The conversation of each sequence."""
    sample_ids: list[str]
    """Content hash of each example."""
    patterns: list[str]
    """Kind of prompt of each example."""

    def __len__(self) -> int:
        return len(self.sequences)


def sample_results(scores: Scores, sample_ids: Collection[str], patterns: Collection[str]) -> SampleResults:
    """Per-sample results of `scores`, in the order of `sample_ids`."""
    offsets_N1 = scores.offsets
    tokens_NB, confidence_NB, correct_NB = calibration_bins(scores.confidence, scores.correct, offsets_N1)
    return SampleResults(
        sample_id=np.asarray(sample_ids, dtype=np.str_),
        pattern=np.asarray(patterns, dtype=np.str_),
        cross_entropy_sum=np.asarray(scores.cross_entropy_sum, dtype=np.float64),
        tokens=np.asarray(scores.tokens, dtype=np.int64),
        exact_match=np.asarray(scores.exact_match, dtype=np.bool_),
        entropy_sum=_segment_sums(scores.entropy, offsets_N1),
        bin_tokens=tokens_NB,
        bin_confidence=confidence_NB,
        bin_correct=correct_NB,
    )


def _segment_sums(values_T: NDArray[np.floating], offsets_N1: NDArray[np.int64]) -> NDArray[np.float64]:
    # Differences of one running sum, in float64: reduceat would misread empty segments.
    running_T1 = np.concatenate([[0.0], np.cumsum(values_T, dtype=np.float64)])
    return np.diff(running_T1[offsets_N1])
