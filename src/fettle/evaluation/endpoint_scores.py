"""Log-probabilities of given tokens, as servers tell them: `prompt_logprobs` of vLLM, or `echo`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.data.sequence import Sequence

Read = tuple[NDArray[np.float64], NDArray[np.bool_] | None]


@dataclass(frozen=True, slots=True, eq=False)
class EndpointScore:
    """What a server says of one completion."""

    sequence: int
    """Index of the sequence."""
    logprob: NDArray[np.float64] | None = field(repr=False)
    """Log-probability of each completion token in nats, [T]; None where it was not measured."""
    correct: NDArray[np.bool_] | None = field(default=None, repr=False)
    """Whether no token was likelier, [T]; None where the server does not tell."""
    reason: str | None = None
    """Why it was not measured."""

    @property
    def cross_entropy_sum(self) -> float | None:
        """Nats over the completion tokens; None where they were not measured."""
        return None if self.logprob is None else float(0.0 - self.logprob.sum())

    @property
    def exact_match(self) -> bool | None:
        """Whether greedy decoding gives the completion; None where the server does not tell."""
        return None if self.correct is None else bool(self.correct.all())


@dataclass(frozen=True, slots=True)
class Way:
    """One way of asking for them."""

    keys: dict[str, Any]
    """What a request holds beside the prompt."""
    told: Callable[[dict[str, Any], dict[str, Any], list[int]], tuple[list[Any], list[Any] | None]]
    """From choice, answer and token ids: of every token but the first its log-probability, and whether it
    was the likeliest."""

    def request(self, model: str, sequence: Sequence) -> dict[str, Any]:
        """The prompt as token ids, so that no tokenizer comes between."""
        ids: list[int] = sequence.input_ids.tolist()
        # Servers refuse to generate nothing.
        return {"model": model, "prompt": ids, "max_tokens": 1, "temperature": 0, **self.keys}

    def read(self, answer: Any, sequence: Sequence) -> Read | None:
        """Of the completion tokens; None where the answer does not tell, or tells of other tokens."""
        ids: list[int] = sequence.input_ids.tolist()
        try:
            usage: Any = answer.get("usage") or {}
            if usage.get("prompt_tokens") not in (None, len(ids)):
                return None
            logprobs, likeliest = self.told(answer["choices"][0], answer, ids)
            logprob_T = np.array(logprobs, dtype=np.float64)
            correct_T = None if likeliest is None else np.array(likeliest, dtype=np.bool_)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError):
            return None
        if logprob_T.shape != (len(ids) - 1,) or np.isnan(logprob_T).any() or (logprob_T > 1e-3).any():
            return None
        at = sequence.loss_mask[1:]
        return np.minimum(logprob_T[at], 0.0), None if correct_T is None else correct_T[at]


def unmeasured(sequence: int, reason: str) -> EndpointScore:
    """No number, and why: not measured is not zero."""
    return EndpointScore(sequence, None, None, reason)


def _prompt_logprobs(
    choice: dict[str, Any], answer: dict[str, Any], ids: list[int]
) -> tuple[list[Any], list[Any] | None]:
    """One entry a token, None for the first; in each, by token id, log-probability and rank from 1."""
    entries = choice.get("prompt_logprobs") or answer["prompt_logprobs"]
    if len(entries) != len(ids):
        raise ValueError("other tokens")
    own = [entry[str(token)] for entry, token in zip(entries[1:], ids[1:], strict=True)]
    ranks = [entry.get("rank") for entry in own]
    return [entry["logprob"] for entry in own], None if None in ranks else [rank == 1 for rank in ranks]


def _echo(
    choice: dict[str, Any], answer: dict[str, Any], ids: list[int]
) -> tuple[list[Any], list[Any] | None]:
    """Log-probabilities of prompt and new token in one list, None for the first; beside it the likeliest."""
    told = choice["logprobs"]
    logprobs = told["token_logprobs"]
    if len(logprobs) not in (len(ids), len(ids) + 1) or logprobs[0] is not None:
        raise ValueError("other tokens")
    logprobs, tops = logprobs[1 : len(ids)], told.get("top_logprobs")
    if not tops or not all(tops[1 : len(ids)]):
        return logprobs, None
    return logprobs, [own >= max(top.values()) for own, top in zip(logprobs, tops[1 : len(ids)], strict=True)]


WAYS = (
    Way({"prompt_logprobs": 1}, _prompt_logprobs),
    Way({"echo": True, "logprobs": 1}, _echo),
)
