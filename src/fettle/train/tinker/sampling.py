"""What the model says by itself, asked of the service."""

from __future__ import annotations

import time
from collections.abc import Generator
from collections.abc import Sequence as Collection
from contextlib import contextmanager
from typing import Any

from tinker import types

from fettle.scoring.generate import Continuation
from fettle.train.bill import Bill
from fettle.train.model import first_line
from fettle.train.tinker.failure import NoSamplerError, is_not_there
from fettle.train.tinker.sdk import settled


class Sampler:
    """Greedy continuations by the weights as they are now; every token goes on the bill."""

    def __init__(self, client: Any, bill: Bill) -> None:
        with refusing():
            self._client = settled(client.save_weights_and_get_sampling_client())
        self._bill = bill

    def ask(
        self, prompt: Collection[int], max_tokens: int, stops: Collection[int] | None, **more: Any
    ) -> PendingAnswer:
        """One continuation; without `stops` it is as long as asked for."""
        self._bill.prefill_tokens += len(prompt)
        future = self._client.sample(
            prompt=types.ModelInput.from_ints(list(prompt)),
            num_samples=1,
            sampling_params=types.SamplingParams(
                max_tokens=max_tokens, temperature=0.0, stop=[] if stops is None else list(stops)
            ),
            **more,
        )
        return PendingAnswer(future, self._bill)


@contextmanager
def refusing() -> Generator[None]:
    """Raises NoSamplerError for a service that has no sampler."""
    try:
        yield
    except Exception as error:
        if is_not_there(error):
            raise NoSamplerError(f"the service does not sample: {first_line(error)}") from error
        raise


class PendingAnswer:
    """A continuation that was asked for."""

    def __init__(self, future: Any, bill: Bill) -> None:
        self._future, self._bill = future, bill

    def result(self) -> Any:
        """The answer, as the SDK gives it. Called once."""
        with refusing():
            answer = self._future.result()
        self._bill.sample_tokens += sum(len(sequence.tokens) for sequence in answer.sequences)
        return answer


def greedy_answers(
    asked: Sampler,
    prompts: Collection[Collection[int]],
    max_new_tokens: int,
    *,
    stops: Collection[int],
    context: int | None,
) -> list[Continuation]:
    """Greedy continuations of token prompts, all asked for at once: times include waiting for others."""
    began = time.perf_counter()
    room = [max_new_tokens if context is None else min(max_new_tokens, context - len(p)) for p in prompts]
    futures = [
        asked.ask(prompt, tokens, stops) if tokens > 0 else None
        for prompt, tokens in zip(prompts, room, strict=True)
    ]
    answers: list[Continuation] = []
    for future in futures:
        if future is None:
            answers.append(Continuation([], ended=False, seconds=0.0))
            continue
        sequence = future.result().sequences[0]
        seconds = time.perf_counter() - began
        answers.append(Continuation(list(sequence.tokens), sequence.stop_reason == "stop", seconds))
    return answers
