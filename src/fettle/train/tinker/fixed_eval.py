"""The fixed eval on the service: cross-entropy from a forward pass, the rest from its sampler."""

from __future__ import annotations

from collections.abc import Sequence as Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.data.sequence import Sequence
from fettle.metrics import calibration_bins
from fettle.metrics.calibration import BINS
from fettle.runs.records import SampleResults
from fettle.train.bill import Bill
from fettle.train.evaluation import FixedEvalSet
from fettle.train.tinker.datum import completion_logprobs, datum
from fettle.train.tinker.sampling import PendingAnswer, Sampler


def evaluate(client: Any, eval_set: FixedEvalSet, bill: Bill, *, sampling: bool = True) -> SampleResults:
    """Per-sample results of the weights as they are now.

    The best token at every place of an answer and its probability come from the log-probabilities
    that the service gives of a prompt. One that gives none is asked for its greedy continuations:
    exact match is the same, calibration is not measured. Entropy needs the whole distribution,
    which no service gives. Of one that does not sample at all (`sampling` is false), exact match is
    not measured either.
    """
    sequences = eval_set.sequences
    forward = client.forward([datum(s) for s in sequences], "cross_entropy")
    bill.prefill_tokens += sum(map(len, sequences))
    asked = Sampler(client, bill) if sampling else None
    logprobs = completion_logprobs(sequences, forward.result())
    tokens_N = np.array([values.size for values in logprobs], dtype=np.int64)
    best = None if asked is None else _best_tokens(asked, sequences)
    if best is None:
        exact_N = None if asked is None else _continues(asked, sequences)
        bins = tuple(np.zeros((len(sequences), BINS)) for _ in range(3))
    else:
        offsets_N1 = np.concatenate([[0], np.cumsum(tokens_N)])
        correct = [ids == s.input_ids[s.loss_mask] for (ids, _), s in zip(best, sequences, strict=True)]
        exact_N = np.array([bool(right.all()) and right.size > 0 for right in correct])
        confidence_T = np.concatenate([probability for _, probability in best])
        bins = calibration_bins(confidence_T, np.concatenate(correct), offsets_N1, BINS)
    return SampleResults(
        sample_id=np.asarray(eval_set.sample_ids, dtype=np.str_),
        pattern=np.asarray(eval_set.patterns, dtype=np.str_),
        cross_entropy_sum=np.array([-values.sum() for values in logprobs], dtype=np.float64) + 0.0,
        tokens=tokens_N,
        exact_match=exact_N,
        entropy_sum=None,
        bin_tokens=bins[0],
        bin_confidence=bins[1],
        bin_correct=bins[2],
    )


def _best_tokens(
    asked: Sampler, sequences: Collection[Sequence]
) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]] | None:
    """Likeliest token and its probability at each completion token; None where the service does not tell."""

    def ask(sequence: Sequence) -> PendingAnswer:
        return asked.ask(sequence.input_ids.tolist(), 1, None, topk_prompt_logprobs=1)

    # One first: where the service gives no log-probabilities of prompts, the others need not be asked.
    answers = [ask(sequences[0]).result()]
    if answers[0].topk_prompt_logprobs is None:
        return None
    futures = [ask(sequence) for sequence in sequences[1:]]
    answers += [future.result() for future in futures]
    return [_at_answer(answer.topk_prompt_logprobs, s) for answer, s in zip(answers, sequences, strict=True)]


def _at_answer(
    told: list[list[tuple[int, float]] | None], sequence: Sequence
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    # Of places where nothing was told: no token, and no probability.
    best = [(told[t] or [(-1, -np.inf)])[0] for t in np.flatnonzero(sequence.loss_mask)]
    return np.array([token for token, _ in best]), np.exp([logprob for _, logprob in best])


def _continues(asked: Sampler, sequences: Collection[Sequence]) -> NDArray[np.bool_]:
    """Whether greedy decoding reproduces every answer of each sequence, [N]."""
    spans = [(n, *span) for n, sequence in enumerate(sequences) for span in sequence.completion_spans]
    futures = [
        asked.ask(sequences[n].input_ids[:start].tolist(), stop - start, None) for n, start, stop in spans
    ]
    right_N = np.array([sequence.completion_tokens > 0 for sequence in sequences])
    for (n, start, stop), future in zip(spans, futures, strict=True):
        said = list(future.result().sequences[0].tokens)
        right_N[n] &= said == sequences[n].input_ids[start:stop].tolist()
    return right_N
