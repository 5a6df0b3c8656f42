"""Scoring spread over the processes of data-parallel training."""

from __future__ import annotations

from collections.abc import Sequence as Collection
from importlib import import_module
from typing import Any, cast

import numpy as np

from fettle.data.sequence import Sequence
from fettle.errors import ModelError
from fettle.scoring import Scores, score
from fettle.scoring.scores import concatenate


def shared_score(
    model: Any, sequences: Collection[Sequence], *, batch_tokens: int | None = None, progress: bool = False
) -> Scores:
    """`score`, of which every process does its share; all of them get all the results.

    Every process must call it, with the same weights and sequences. Where one fails, all raise:
    one that waited for the results of another would wait forever.
    """
    distributed: Any = import_module("torch.distributed")
    if not distributed.is_available() or not distributed.is_initialized():
        return score(model, sequences, batch_tokens=batch_tokens, progress=progress)
    rank, world = int(distributed.get_rank()), int(distributed.get_world_size())
    if world == 1:
        return score(model, sequences, batch_tokens=batch_tokens, progress=progress)
    # Dealt out from the longest on, so that all have as much to do.
    by_length = np.argsort([-len(sequence) for sequence in sequences], kind="stable")
    mine: list[int] = by_length[rank::world].tolist()
    part: Scores | None = None
    failure: Exception | None = None
    try:
        part = score(
            model, [sequences[i] for i in mine], batch_tokens=batch_tokens, progress=progress and rank == 0
        )
    except Exception as error:  # noqa: BLE001 - it is told to all and raised again below
        failure = error
    parts: list[Any] = [None] * world
    distributed.all_gather_object(parts, (part, None if failure is None else repr(failure)))
    if failure is not None:
        raise failure
    for other, (_, problem) in enumerate(cast("list[tuple[Scores | None, str | None]]", parts)):
        if problem is not None:
            raise ModelError(f"process {other} could not score the held-out examples: {problem}")
    together = concatenate([scores for scores, _ in parts])
    dealt = np.concatenate([by_length[other::world] for other in range(world)])
    return together.select(np.argsort(dealt))
