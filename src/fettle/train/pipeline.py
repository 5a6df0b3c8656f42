"""Steps in order, submitted as far ahead as the backend likes and never past a boundary."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fettle.data.sequence import Sequence
from fettle.train.backend import Backend, PendingStep, StepResult


@dataclass(frozen=True, slots=True)
class DoneStep:
    """One finished step and how long the loop waited for it, in seconds."""

    step: int
    learning_rate: float
    result: StepResult
    seconds: float
    ahead: int = 0
    """Steps that were submitted beyond it: until these are done, the weights are not those after this one."""


def run_steps(
    backend: Backend,
    *,
    first: int,
    last: int,
    batch: Callable[[int], list[Sequence]],
    learning_rate: Callable[[int], float],
    boundary: Callable[[int], bool],
    read_layers: Callable[[int], bool],
    stopping: Callable[[int], bool],
) -> Iterator[DoneStep]:
    """Yield every step from `first` to `last`, each exactly once.

    A step for which `boundary` is true (a measurement, an evaluation or a checkpoint follows)
    is the last one submitted until its consumer asks for more: whoever saves
    then finds the backend in the state after that very step. Once `stopping`
    is true of the next step nothing more is submitted, and what was submitted is still yielded.
    """
    pending: deque[tuple[int, float, PendingStep]] = deque()
    upcoming = first
    while True:
        started = time.perf_counter()
        while upcoming <= last and not stopping(upcoming) and len(pending) <= backend.lookahead:
            if pending and boundary(pending[-1][0]):
                break
            rate = learning_rate(upcoming)
            submitted = backend.step(batch(upcoming), rate, read_layers=read_layers(upcoming))
            pending.append((upcoming, rate, submitted))
            upcoming += 1
        if not pending:
            return
        step, rate, submitted = pending.popleft()
        result = submitted.result()
        yield DoneStep(step, rate, result, time.perf_counter() - started, len(pending))
