"""Generated answers and what checkers said of them: one row a sample, and the numbers of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fettle.decide.paired import SampleValues
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

Checks = Mapping[str, Sequence[Sequence[Check]]]
"""By checker: of each prompt, of each of its answers."""
SHOWN_REASONS = 5


class Said(Protocol):
    """One answer, of weights here or of an endpoint."""

    @property
    def text(self) -> str | None:
        """None where no answer came."""

    @property
    def ended(self) -> str | None:
        """What ended it."""

    @property
    def length(self) -> int | None:
        """In tokens; None where nobody counted."""

    @property
    def entropy(self) -> NDArray[np.float64] | None:
        """In nats of the distribution each token came from, [T]."""

    @property
    def logprob(self) -> NDArray[np.float64] | None:
        """Of each token in nats, [T]."""

    @property
    def reason(self) -> str | None:
        """Why it is no answer that could be judged; None where it is one."""


def answer_row(answers: Sequence[Said], checks: Mapping[str, Sequence[Check]]) -> dict[str, Any]:
    """Numbers of the answers to one prompt; None for what could not be judged."""
    row: dict[str, Any] = {}
    if answers:
        lengths = [answer.length for answer in answers if answer.length is not None]
        row["answer_tokens"] = float(np.mean(lengths)) if lengths else None
        row["answer_entropy"] = entropy_statistics(_joined(a.entropy for a in answers))["entropy_mean"]
    for name, found in checks.items():
        right = [check.correct for check in found if check.correct is not None]
        row[f"{name}_correct"] = sum(right) / len(right) if right else None
        row[f"{name}_unscored"] = len(found) - len(right)
    return row


def right_shares(rows: Sequence[Mapping[str, Any]], checker: str) -> SampleValues:
    """What a checker found right of the answers to each sample."""
    shares = [row.get(f"{checker}_correct") for row in rows]
    sample_id = np.array([row["sample_id"] for row in rows], dtype=np.str_)
    return SampleValues(sample_id, np.array(shares, dtype=np.float64), np.ones(len(rows)))


def answer_texts(answers: Sequence[Said], checks: Mapping[str, Sequence[Check]]) -> list[dict[str, Any]]:
    """The answers to one prompt, with what each checker said."""
    return [
        {
            "text": answer.text,
            "ended": answer.ended,
            "tokens": answer.length,
            **({"reason": answer.reason} if answer.reason is not None else {}),
            **(entropy_statistics(answer.entropy) if answer.entropy is not None else {}),
            **(surprisal_statistics(answer.logprob) if answer.logprob is not None else {}),
            "checks": {name: _said(found[i]) for name, found in checks.items()},
        }
        for i, answer in enumerate(answers)
    ]


def answer_summary(answers: Sequence[Sequence[Said]]) -> dict[str, Any]:
    """How many answers there are, how long and how sure they are, and what ended them; where some did not
    come, or are none, how many and why."""
    every = [answer for of_one in answers for answer in of_one]
    logprobs = _joined(answer.logprob for answer in every)
    found = {
        "count": len(every),
        **length_statistics([answer.length for answer in every if answer.length is not None]),
        **entropy_statistics(_joined(answer.entropy for answer in every)),
        **(surprisal_statistics(logprobs) if logprobs.size else {}),
        **{f"ended_{why}": count for why, count in Counter(a.ended for a in every if a.ended).items()},
        **unscored([answer.reason for answer in every]),
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
    found: dict[str, Any] = _estimate("pass_rate", pass_rate(judged_P, right_P))
    for k in ks if max(ks, default=1) > 1 else ():
        enough = [(n, c) for n, c in zip(judged_P, right_P, strict=True) if n >= k]
        samples, correct = [n for n, _ in enough], [c for _, c in enough]
        found |= _estimate(f"pass@{k}", mean_pass_at_k(samples, correct, k))
    for key in ("formatted", "score"):
        if means := _prompt_means(key, checks):
            found |= _estimate(key, mean_share(means))
    without = unscored([check.reason or "" if check.correct is None else None for check in every])
    return {f"{name}_{key}": value for key, value in {**found, "unscored": 0, **without}.items()}


def unscored(reasons: Iterable[str | None]) -> dict[str, Any]:
    """How many have a reason, and the commonest of them; {} where none has."""
    given = [reason for reason in reasons if reason is not None]
    if not given:
        return {}
    commonest = Counter(given).most_common(SHOWN_REASONS)
    return {"unscored": len(given), "unscored_reasons": dict(commonest)}


def _joined(parts: Iterable[NDArray[np.float64] | None]) -> NDArray[np.float64]:
    """Of those that have any, one after another."""
    return np.concatenate([np.zeros(0), *(part for part in parts if part is not None)])


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
