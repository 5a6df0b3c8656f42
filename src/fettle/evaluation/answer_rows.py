"""Generated answers and what checkers said of them: one row a sample, and the numbers of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fettle.evaluation.checkers import Check
from fettle.metrics.intervals import Estimate
from fettle.metrics.pass_at_k import (
    entropy_statistics,
    length_statistics,
    mean_pass_at_k,
    mean_share,
    pass_rate,
    surprisal_statistics,
)
from fettle.scoring import Answer

Checks = Mapping[str, Sequence[Sequence[Check]]]
"""By checker: of each prompt, of each of its answers."""
SHOWN_REASONS = 5


def answer_row(answers: Sequence[Answer], checks: Mapping[str, Sequence[Check]]) -> dict[str, Any]:
    """Numbers of the answers to one prompt; None for what could not be judged."""
    row: dict[str, Any] = {}
    if answers:
        row["answer_tokens"] = float(np.mean([len(answer.tokens) for answer in answers]))
        every = np.concatenate([answer.entropy for answer in answers])
        row["answer_entropy"] = entropy_statistics(every)["entropy_mean"]
    for name, found in checks.items():
        right = [check.correct for check in found if check.correct is not None]
        row[f"{name}_correct"] = sum(right) / len(right) if right else None
        row[f"{name}_unscored"] = len(found) - len(right)
    return row


def answer_texts(answers: Sequence[Answer], checks: Mapping[str, Sequence[Check]]) -> list[dict[str, Any]]:
    """The answers to one prompt, with what each checker said."""
    return [
        {
            "text": answer.text,
            "ended": answer.ended,
            "tokens": len(answer.tokens),
            **entropy_statistics(answer.entropy),
            **(surprisal_statistics(answer.logprob) if answer.logprob is not None else {}),
            "checks": {name: _said(found[i]) for name, found in checks.items()},
        }
        for i, answer in enumerate(answers)
    ]


def answer_summary(answers: Sequence[Sequence[Answer]]) -> dict[str, Any]:
    """How many answers there are, how long and how sure they are, and what ended them."""
    every = [answer for of_one in answers for answer in of_one]
    logprobs = [answer.logprob for answer in every if answer.logprob is not None]
    nothing = np.zeros(0)
    found = {
        "count": len(every),
        **length_statistics([len(answer.tokens) for answer in every]),
        **entropy_statistics(np.concatenate([nothing, *(answer.entropy for answer in every)])),
        **(surprisal_statistics(np.concatenate([nothing, *logprobs])) if logprobs else {}),
        **{f"ended_{why}": count for why, count in Counter(a.ended for a in every).items()},
    }
    return {f"answers_{key}": value for key, value in found.items()}


def checker_summary(name: str, checks: Sequence[Sequence[Check]], ks: Sequence[int]) -> dict[str, Any]:
    """Pass rate and pass@k over prompts with 95 % intervals, all under the name of the checker.

    An answer that could not be judged counts for nothing; a prompt with fewer judged answers than k is left
    out of pass@k.
    """
    every = [check for of_one in checks for check in of_one]
    judged_P = [sum(check.correct is not None for check in of_one) for of_one in checks]
    right_P = [sum(check.correct is True for check in of_one) for of_one in checks]
    found = _estimate("pass_rate", pass_rate(judged_P, right_P))
    for k in ks if max(ks, default=1) > 1 else ():
        enough = [(n, c) for n, c in zip(judged_P, right_P, strict=True) if n >= k]
        samples, correct = [n for n, _ in enough], [c for _, c in enough]
        found |= _estimate(f"pass@{k}", mean_pass_at_k(samples, correct, k))
    for key in ("formatted", "score"):
        if means := _prompt_means(key, checks):
            found |= _estimate(key, mean_share(means))
    unscored = [check for check in every if check.correct is None]
    found["unscored"] = len(unscored)
    reasons = Counter(check.reason or "" for check in unscored).most_common(SHOWN_REASONS)
    return {f"{name}_{key}": value for key, value in found.items()} | (
        {f"{name}_unscored_reasons": dict(reasons)} if reasons else {}
    )


def _prompt_means(key: str, checks: Sequence[Sequence[Check]]) -> list[float]:
    """Mean of one number over the answers to each prompt that have it."""
    values = [[getattr(check, key) for check in of_one] for of_one in checks]
    measured = [[float(value) for value in of_one if value is not None] for of_one in values]
    return [sum(of_one) / len(of_one) for of_one in measured if of_one]


def _estimate(key: str, found: Estimate | None) -> dict[str, float | None]:
    if found is None:
        return {key: None, f"{key}_low": None, f"{key}_high": None}
    return {key: found.value, f"{key}_low": found.low, f"{key}_high": found.high}


def _said(check: Check) -> dict[str, Any]:
    others = {"reason": check.reason, "formatted": check.formatted, "score": check.score}
    return {"correct": check.correct, **{k: v for k, v in others.items() if v is not None}}
