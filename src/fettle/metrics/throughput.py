"""Tokens per second, from the tokens that were really processed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rates:
    """Throughput of some steps."""

    tokens_per_sec: float
    """All tokens that went through the model, padding left out."""
    completion_tokens_per_sec: float
    """Tokens that carry loss."""
    step_time: float
    """Mean seconds of a step."""
    steps: int


class Throughput:
    """Clock around training steps: `start()` before, `stop(tokens, completion_tokens)` after each.

    What happens between steps (evaluation, checkpoints) is not counted. The first `warm_up_steps`
    steps are left out: they pay for compilation, caches and the first allocation. A clock that goes
    backwards counts as no time.
    """

    def __init__(self, warm_up_steps: int = 2, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._warm_up_left = warm_up_steps
        self._started: float | None = None
        self._run = _Sums()
        self._interval = _Sums()

    def start(self) -> None:
        """A step begins now."""
        self._started = self._clock()

    def stop(self, tokens: int, completion_tokens: int) -> float:
        """The step ends now; returns its seconds. Raises RuntimeError without a `start()` before it."""
        if self._started is None:
            raise RuntimeError("Throughput.stop() without start()")
        seconds = max(0.0, self._clock() - self._started)
        self._started = None
        if self._warm_up_left > 0:
            self._warm_up_left -= 1
            return seconds
        for sums in (self._run, self._interval):
            sums.add(tokens, completion_tokens, seconds)
        return seconds

    def interval(self) -> Rates | None:
        """Rates since the last call; None when only warm-up steps, or none, lie between."""
        rates, self._interval = self._interval.rates(), _Sums()
        return rates

    def average(self) -> Rates | None:
        """Rates of all steps after the warm-up."""
        return self._run.rates()


class _Sums:
    def __init__(self) -> None:
        self.tokens = 0
        self.completion_tokens = 0
        self.seconds = 0.0
        self.steps = 0

    def add(self, tokens: int, completion_tokens: int, seconds: float) -> None:
        self.tokens += tokens
        self.completion_tokens += completion_tokens
        self.seconds += seconds
        self.steps += 1

    def rates(self) -> Rates | None:
        if self.seconds <= 0:
            return None
        return Rates(
            self.tokens / self.seconds,
            self.completion_tokens / self.seconds,
            self.seconds / self.steps,
            self.steps,
        )
