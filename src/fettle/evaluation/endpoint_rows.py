"""What a server says of right answers: rows and numbers with the names that those of weights here have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fettle.evaluation.answer_rows import unscored
from fettle.evaluation.endpoint_scores import EndpointScore
from fettle.evaluation.sample_rows import sample_row
from fettle.metrics import summarise_patterns, summarise_samples
from fettle.metrics.calibration import BINS
from fettle.runs.records import SampleResults
from fettle.train.evaluation import FixedEvalSet


def endpoint_rows(eval_set: FixedEvalSet, scores: Sequence[EndpointScore]) -> list[dict[str, Any]]:
    """Numbers of each sample; None for what the server does not tell."""
    tokens = [s.completion_tokens for s in eval_set.sequences] or [None] * len(eval_set.examples)
    named = zip(eval_set.sample_ids, eval_set.patterns, tokens, strict=True)
    pairs = zip(named, scores, strict=True)
    return [sample_row(*name, score.logprob, score.correct) for name, score in pairs]


def endpoint_summary(
    eval_set: FixedEvalSet, scores: Sequence[EndpointScore], length_bins: Sequence[int]
) -> dict[str, Any]:
    """As of weights here, over the samples of which the server tells; confidence and entropy are unknown.

    Where there are samples of which it does not, `teacher_forced_unscored` is how many.
    """
    told = [i for i, score in enumerate(scores) if score.logprob is not None]
    samples = endpoint_samples(eval_set, scores)
    judged = summarise_samples(samples)
    without = unscored([score.reason for score in scores])
    return {
        **summarise_samples(_results(eval_set, scores, told)),
        **{key: judged[key] for key in ("exact_match", "exact_match_low", "exact_match_high")},
        "samples": len(eval_set.examples),
        "patterns": summarise_patterns(samples, length_bins),
        "calibration": [],
        **{f"teacher_forced_{key}": value for key, value in without.items()},
    }


def endpoint_samples(eval_set: FixedEvalSet, scores: Sequence[EndpointScore]) -> SampleResults:
    """Results of the samples of which the server tells both log-probability and the likeliest tokens."""
    return _results(eval_set, scores, [i for i, score in enumerate(scores) if score.correct is not None])


def _results(eval_set: FixedEvalSet, scores: Sequence[EndpointScore], at: Sequence[int]) -> SampleResults:
    sums = [scores[i].cross_entropy_sum for i in at]
    nothing = np.zeros((len(at), BINS))
    return SampleResults(
        sample_id=np.array([eval_set.sample_ids[i] for i in at], dtype=np.str_),
        pattern=np.array([eval_set.patterns[i] for i in at], dtype=np.str_),
        cross_entropy_sum=np.array(sums, dtype=np.float64),
        tokens=np.array([eval_set.sequences[i].completion_tokens for i in at], dtype=np.int64),
        exact_match=np.array([scores[i].exact_match or False for i in at], dtype=np.bool_),
        entropy_sum=None,
        bin_tokens=nothing,
        bin_confidence=nothing,
        bin_correct=nothing,
    )
