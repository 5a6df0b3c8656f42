"""Tokens of one forward pass, found while passes run: the results of every one are kept."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from loguru import logger

from fettle.scoring.budget import GPU_TOKENS, default_batch_tokens
from fettle.scoring.decoder import device_of, unwrapped

FASTER = 1.05
"""By this much more tokens a second than before, or larger passes do not pay."""
SHARE = 0.8
"""Of the free memory that a pass may be expected to take."""
FULL = 0.7
"""Share of the budget from which a pass tells something of it: the last one of the data may be short."""

_found: dict[Any, int] = {}
"""Budgets that were settled in this process, by model, device, dtype and attention."""


class Meter(Protocol):
    """Memory of one device, in bytes."""

    def start(self) -> None:
        """A pass begins."""
        ...

    def peak(self) -> int:
        """Most that was held since, over what was held then; the pass has ended."""
        ...

    def free(self) -> int:
        """What could be taken now."""
        ...


class CudaMeter:
    """Of a CUDA device, as torch's allocator counts."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._held = 0

    def start(self) -> None:
        torch.cuda.synchronize(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        self._held = torch.cuda.memory_allocated(self._device)

    def peak(self) -> int:
        torch.cuda.synchronize(self._device)
        return torch.cuda.max_memory_allocated(self._device) - self._held

    def free(self) -> int:
        kept = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        return torch.cuda.mem_get_info(self._device)[0] + kept


class TokenBudget:
    """How many tokens the next pass may hold.

    A number that was given stays, until a pass does not fit. Else it begins with what the model's size
    suggests and doubles while that makes passes faster and a line through the peaks of those so far,
    a + b · tokens, says that the next one fits; what was found holds for the model, device, dtype and
    attention. On a CPU larger passes are no faster, and sums would depend on the clock: nothing grows there
    unless a meter is given.
    """

    def __init__(self, model: Any, given: int | None = None, meter: Meter | None = None) -> None:
        device = device_of(model)
        if meter is None and device.type == "cuda":
            meter = CudaMeter(device)
        self._key = _key(model, device)
        known = _found.get(self._key) if meter is not None and given is None else None
        self.tokens = given or known or default_batch_tokens(model)
        self._meter = None if given or known else meter
        """None: nothing is left to find."""
        self._peaks: list[tuple[int, int]] = []
        self._best = (0.0, self.tokens)
        """Tokens a second, and of which budget."""

    @contextmanager
    def measured(self, tokens: int) -> Generator[None]:
        """One pass of so many tokens; one that raises tells nothing."""
        meter = self._meter
        if meter is None or tokens < FULL * self.tokens:
            yield
            return
        meter.start()
        began = time.perf_counter()
        yield
        peak = meter.peak()  # Waits for the device.
        self._learn(tokens, tokens / (time.perf_counter() - began), peak, meter)

    def shrink(self, tokens: int) -> None:
        """Half of what did not fit, from here on."""
        self.tokens = max(1, min(self.tokens, tokens) // 2)
        self._settle(self.tokens)
        logger.warning("out of memory: batches are limited to {} tokens from here on", self.tokens)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _learn(self, tokens: int, rate: float, peak: int, meter: Meter) -> None:
        self._peaks.append((tokens, peak))
        if rate < FASTER * self._best[0]:
            self._settle(self._best[1])
            return
        self._best = (rate, self.tokens)
        larger = int(min(2 * self.tokens, GPU_TOKENS[1], self._room(meter.free())))
        if larger <= self.tokens:
            self._settle(self.tokens)
        self.tokens = max(self.tokens, larger)

    def _room(self, free: int) -> float:
        """Tokens at which the line through the peaks reaches the share of the free memory."""
        tokens, peaks = np.array(self._peaks, dtype=np.float64).T
        a, b = 0.0, float(peaks[-1] / tokens[-1])
        apart = tokens - tokens.mean()
        if apart.any():
            slope = float(apart @ peaks / (apart @ apart))
            level = float(peaks.mean() - slope * tokens.mean())
            # A line that falls, or starts below nothing, is noise.
            a, b = (level, slope) if slope > 0 and level >= 0 else (a, b)
        return np.inf if b <= 0 else (SHARE * free - a) / b

    def _settle(self, tokens: int) -> None:
        self.tokens = tokens
        if self._meter is not None:
            _found[self._key] = tokens
            logger.debug("passes of {} tokens", tokens)
        self._meter = None


def _key(model: Any, device: torch.device) -> Any:
    config = unwrapped(model).config
    return config.to_json_string(), str(device), unwrapped(model).dtype, config._attn_implementation
