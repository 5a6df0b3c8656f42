"""One row a sample: for a table, and with its texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.data.example import message_text
from fettle.runs.records import SampleResults
from fettle.scoring.scores import Scores
from fettle.train.evaluation import FixedEvalSet


def sample_rows(samples: SampleResults, scores: Scores) -> list[dict[str, Any]]:
    """Numbers of each sample; None where it has no completion token."""
    rows: list[dict[str, Any]] = []
    for i in range(len(scores)):
        part = slice(int(scores.offsets[i]), int(scores.offsets[i + 1]))
        n = part.stop - part.start
        name = (str(samples.sample_id[i]), str(samples.pattern[i]), n)
        if not n:
            rows.append(sample_row(*name))
            continue
        tokens = (scores.logprob[part], scores.correct[part], scores.confidence[part], scores.entropy[part])
        rows.append(sample_row(*name, *tokens))
    return rows


def sample_row(
    sample_id: str,
    pattern: str,
    tokens: int | None,
    logprob_T: NDArray[np.float64] | None = None,
    correct_T: NDArray[np.bool_] | None = None,
    confidence_T: NDArray[np.float64] | None = None,
    entropy_T: NDArray[np.float64] | None = None,
) -> dict[str, Any]:
    """Numbers of one sample from those of its T completion tokens; None for what is not given."""
    cross_entropy = None if logprob_T is None else float(0.0 - logprob_T.sum()) / logprob_T.size
    wrong = None if correct_T is None else np.flatnonzero(~correct_T)
    return {
        "sample_id": sample_id,
        "pattern": pattern,
        "tokens": tokens,
        "cross_entropy": cross_entropy,
        "perplexity": None if cross_entropy is None else _exp(cross_entropy),
        "exact_match": None if wrong is None else not wrong.size,
        "token_accuracy": None if correct_T is None else float(correct_T.mean()),
        "first_wrong_token": None if wrong is None or not wrong.size else int(wrong[0]),
        "confidence": None if confidence_T is None else float(confidence_T.mean()),
        "entropy_mean": None if entropy_T is None else float(entropy_T.mean()),
        "entropy_std": None if entropy_T is None else float(entropy_T.std()),
        "entropy_max": None if entropy_T is None else float(entropy_T.max()),
        "entropy_p95": None if entropy_T is None else float(np.quantile(entropy_T, 0.95)),
        "surprisal_max": None if logprob_T is None else float(-logprob_T.min()),
    }


def prediction_rows(eval_set: FixedEvalSet, rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The same with the prompt and the golden answer."""
    for example, row in zip(eval_set.examples, rows, strict=True):
        answer = message_text(example.messages[len(example.prompt)])
        yield {**row, "prompt": example.prompt, "golden": answer, "line": example.line}


def calibration_table(samples: SampleResults) -> list[dict[str, float]]:
    """Tokens, their mean confidence and the share that is right, of each bin of confidence that has any."""
    tokens_B = samples.bin_tokens.sum(0)
    confidence_B, correct_B = samples.bin_confidence.sum(0), samples.bin_correct.sum(0)
    return [
        {"tokens": float(n), "confidence": float(confidence / n), "accuracy": float(correct / n)}
        for n, confidence, correct in zip(tokens_B, confidence_B, correct_B, strict=True)
        if n > 0
    ]


def spread(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean, standard deviation, least, largest and median of each column of numbers, over its samples."""
    found: dict[str, dict[str, float]] = {}
    for key in rows[0] if rows else ():
        values = [row[key] for row in rows if isinstance(row[key], (int, float))]
        if values and not all(isinstance(value, bool) for value in values):
            found[key] = _five(np.array(values, dtype=np.float64))
    return found


def _five(values: NDArray[np.float64]) -> dict[str, float]:
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
        "median": float(np.median(values)),
    }


def _exp(value: float) -> float | None:
    """e to this power; None where it has no number."""
    return float(np.exp(value)) if value < 700 else None
