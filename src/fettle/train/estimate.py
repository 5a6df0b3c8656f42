"""What a training will take, from the real tokens of its data, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence as Collection
from dataclasses import dataclass
from typing import Any

from fettle.config import Config, TinkerPrices, check_files, prices_in_force
from fettle.data.sequence import Sequence
from fettle.train.dataset import encode_chats, read_chats
from fettle.train.job import batch_order, fixed_predictions
from fettle.train.loop import Loop
from fettle.train.model import load_tokenizer

Tokens = tuple[int, int]
"""Read, and sampled."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of the whole training, were it not to stop early."""

    backend: str
    model: str
    steps: int
    train_tokens: int
    """Of all batches, prompts counted."""
    completion_tokens: int
    """Those of them that carry loss."""
    evals: int
    eval_tokens: int
    """Of all fixed evals together."""
    evals_by_logprobs: Tokens
    """Of all fixed evals on a service that gives log-probabilities of prompts: it reads each chat twice."""
    evals_by_sampling: Tokens
    """At most, on one that gives none: it is asked for the answers."""
    sampled_tokens: int
    """At most, of the answers to the fixed prompts."""
    prompt_tokens: int
    """Of the fixed prompts, each time they are asked."""
    prices: TinkerPrices | None
    """US dollars a million tokens; None for a local training, and where nobody knows them."""
    prices_as_of: str | None
    """Day they were published; None where the configuration gives them."""

    @property
    def cost(self) -> dict[str, float] | None:
        """US dollars for training, for fixed evals and answers at most, and the sum; None without prices."""
        if self.prices is None:
            return None
        train = self.prices.cost(train=self.train_tokens)
        ways = (self.evals_by_logprobs, self.evals_by_sampling)
        evals = max(self.prices.cost(prefill=read, sample=sampled) for read, sampled in ways)
        answers = self.prices.cost(prefill=self.prompt_tokens, sample=self.sampled_tokens)
        return {"train": train, "evals": evals, "answers": answers, "total": train + evals + answers}


def estimate(config: Config, *, progress: bool = False) -> Estimate:
    """Count what `config` asks for; no model is loaded, no service asked.

    Raises what training raises for files and data that cannot be used.
    """
    check_files(config)
    tokenizer = load_tokenizer(config.model)
    encoded = encode_chats(read_chats(config), config, tokenizer, progress=progress)
    order = batch_order(config.training, encoded.train)
    nothing: Any = None  # The loop is asked for its plan and never run.
    plan = Loop(
        config=config.training,
        backend=nothing,
        sequences=encoded.train,
        fixed_eval=encoded.fixed_eval,
        order=order,
        learning_rate=nothing,
        recorder=nothing,
        predictions=fixed_predictions(config, encoded.fixed_eval, tokenizer),
    )
    steps = range(1, order.total_steps + 1)
    evals = sum(map(plan.evaluates, steps))
    asked = sum(map(plan.predicts, steps))
    prompts = plan.predictions.prompts if plan.predictions else []
    held_out = encoded.fixed_eval.sequences if encoded.fixed_eval else []
    trained = [encoded.train[int(i)] for step in steps for i in order.batch(step)]
    known = prices_in_force(config.model, config.tinker) if config.backend == "tinker" else None
    prices, as_of = known or (None, None)
    return Estimate(
        backend=config.backend,
        model=config.model,
        steps=order.total_steps,
        train_tokens=sum(map(len, trained)),
        completion_tokens=sum(sequence.completion_tokens for sequence in trained),
        evals=evals,
        eval_tokens=evals * sum(map(len, held_out)),
        evals_by_logprobs=_times(evals, *_by_logprobs(held_out)),
        evals_by_sampling=_times(evals, *_by_sampling(held_out)),
        sampled_tokens=asked * len(prompts) * config.predictions.max_new_tokens,
        prompt_tokens=asked * sum(len(prompt.tokens) for prompt in prompts),
        prices=prices,
        prices_as_of=as_of,
    )


def _by_logprobs(held_out: Collection[Sequence]) -> Tokens:
    """Of one fixed eval: a pass for cross-entropy, and one, with a token, for the likeliest tokens."""
    return 2 * sum(map(len, held_out)), len(held_out)


def _by_sampling(held_out: Collection[Sequence]) -> Tokens:
    """The pass for cross-entropy, the first chat asked for log-probabilities in vain, then every answer."""
    spans = [span for sequence in held_out for span in sequence.completion_spans]
    read = sum(map(len, held_out)) + sum(map(len, held_out[:1])) + sum(start for start, _ in spans)
    return read, len(held_out[:1]) + sum(stop - start for start, stop in spans)


def _times(evals: int, read: int, sampled: int) -> Tokens:
    return evals * read, evals * sampled
