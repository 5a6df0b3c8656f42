"""Tokens per second, from the tokens that were really processed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rates:
    """Throughput of some steps."""

    tokens_per_sec: float
    """All tokens that went through the model, padding left out."""
    completion_tokens_per_sec: float
    """Tokens that carry loss."""
    seconds_per_step: float
    steps: int


class Throughput:
    """Rates over the last `window` steps, and over the run.

    The first `warm_up_steps` steps are left out: they pay for compilation, caches and the first
    allocation. Give the seconds of each step where they are known, so that evaluation and saving
    between the steps do not count; otherwise the clock measures from the step (or `start()`) before.
    A clock that goes backwards counts as no time.
    """

    def __init__(
        self,
        warm_up_steps: int = 2,
        window: int = 10,
        baseline_steps: int = 20,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clock = clock
        self._baseline_steps = baseline_steps
        self._baseline: Rates | None = None
        self._warm_up_left = warm_up_steps
        self._mark: float | None = None
        self._recent: deque[tuple[int, int, float]] = deque(maxlen=window)
        self._tokens = 0
        self._completion_tokens = 0
        self._seconds = 0.0
        self._steps = 0

    def start(self) -> None:
        """A step begins now; what happened since the last one does not count."""
        self._mark = self._clock()

    def step(self, *, tokens: int, completion_tokens: int, seconds: float | None = None) -> float | None:
        """A step is done; returns its seconds, None where no clock was started before it."""
        now = self._clock()
        if seconds is None and self._mark is not None:
            seconds = max(0.0, now - self._mark)
        self._mark = now
        if seconds is None:
            return None
        if self._warm_up_left > 0:
            self._warm_up_left -= 1
            return seconds
        self._recent.append((tokens, completion_tokens, seconds))
        self._tokens += tokens
        self._completion_tokens += completion_tokens
        self._seconds += seconds
        self._steps += 1
        if self._steps == self._baseline_steps:
            self._baseline = self.average()
        return seconds

    def recent(self) -> Rates | None:
        """Rates of the last `window` steps; None during the warm-up."""
        tokens = sum(row[0] for row in self._recent)
        completion_tokens = sum(row[1] for row in self._recent)
        return _rates(tokens, completion_tokens, sum(row[2] for row in self._recent), len(self._recent))

    def average(self) -> Rates | None:
        """Rates of all steps after the warm-up."""
        return _rates(self._tokens, self._completion_tokens, self._seconds, self._steps)

    def baseline(self) -> Rates | None:
        """Rates of the first `baseline_steps` after the warm-up; None before they are done."""
        return self._baseline

    @property
    def trend(self) -> float | None:
        """Tokens per second of the last steps over those of the first: below 1 it became slower."""
        now, first = self.recent(), self._baseline
        return None if now is None or first is None else now.tokens_per_sec / first.tokens_per_sec

    @property
    def tokens_per_sec(self) -> float | None:
        """Of the last `window` steps."""
        rates = self.recent()
        return rates.tokens_per_sec if rates else None

    @property
    def completion_tokens_per_sec(self) -> float | None:
        """Of the last `window` steps."""
        rates = self.recent()
        return rates.completion_tokens_per_sec if rates else None

    @property
    def seconds_per_step(self) -> float | None:
        """Of the last `window` steps."""
        rates = self.recent()
        return rates.seconds_per_step if rates else None


def _rates(tokens: int, completion_tokens: int, seconds: float, steps: int) -> Rates | None:
    if seconds <= 0 or steps == 0:
        return None
    return Rates(tokens / seconds, completion_tokens / seconds, seconds / steps, steps)
