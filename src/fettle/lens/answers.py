"""What the model says to each text: generated once, kept, and read back by teacher forcing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fettle.config import SamplingConfig
from fettle.evaluation.answer_bytes import answer_key, pack_answer, unpack_answer
from fettle.evaluation.cache import ScoreCache
from fettle.scoring import Answer, sample_batches
from fettle.scoring.generate import end_tokens


def answers(
    model: Callable[[], Any],
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    settings: SamplingConfig,
    cache: ScoreCache,
    source: tuple[str, ...],
) -> list[Answer]:
    """One answer a prompt, in their order; those that the cache knows are not generated again.

    `source` says by content what answers: weights, type and attention, tokenizer. `model` gives the model,
    and is called only where something is to be generated.
    """
    ends = sorted(end_tokens(None, tokenizer, ()))
    weights, precision, tokenizer_digest = source
    keys = [
        answer_key(list(prompt), 0, settings, ends, weights, precision, tokenizer_digest)
        for prompt in prompts
    ]
    known = cache.get(keys)
    missing = list({key: i for i, key in enumerate(keys) if key not in known}.values())
    if missing:
        batches = sample_batches(model(), tokenizer, [prompts[i] for i in missing], settings, ends=ends)
        for batch in batches:
            items = [(keys[missing[answer.prompt]], pack_answer(answer)) for answer in batch]
            cache.put(items)
            known.update(items)
    return [unpack_answer(known[key], i) for i, key in enumerate(keys)]
