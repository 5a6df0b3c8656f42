"""What the model says by itself, asked of the service."""

from __future__ import annotations

import time
from collections.abc import Sequence as Collection
from typing import Any

from tinker import types

from fettle.scoring.generate import Continuation
from fettle.train.tinker.sdk import settled


def sampler(client: Any) -> Any:
    """A client that samples from the weights as they are now."""
    return settled(client.save_weights_and_get_sampling_client())


def greedy(
    prompt: Collection[int], max_tokens: int, stops: Collection[int] | None, **more: Any
) -> dict[str, Any]:
    """Arguments of `sample` for one greedy continuation; without `stops` it is as long as asked for."""
    return {
        "prompt": types.ModelInput.from_ints(list(prompt)),
        "num_samples": 1,
        "sampling_params": types.SamplingParams(
            max_tokens=max_tokens, temperature=0.0, stop=[] if stops is None else list(stops)
        ),
        **more,
    }


def greedy_answers(
    client: Any,
    prompts: Collection[Collection[int]],
    max_new_tokens: int,
    *,
    stops: Collection[int],
    context: int | None,
) -> list[Continuation]:
    """Greedy continuations of token prompts, all asked for at once: times include waiting for others."""
    began = time.perf_counter()
    asked = sampler(client)
    room = [max_new_tokens if context is None else min(max_new_tokens, context - len(p)) for p in prompts]
    futures = [
        asked.sample(**greedy(prompt, tokens, stops)) if tokens > 0 else None
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
