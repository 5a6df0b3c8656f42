"""Agreement between the processes of data-parallel training."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from fettle.train.step_meter import MeasuredStep


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those that train the same weights."""

    rank: int = 0
    count: int = 1
    device: Any = "cpu"
    """Where this process keeps what it exchanges with the others."""

    def total(self, measured: MeasuredStep, asked: bool = False) -> tuple[MeasuredStep, bool]:
        """Sums over all processes, and whether one of them was asked for something: one exchange for both."""
        if self.count == 1:
            return measured, asked
        distributed: Any = import_module("torch.distributed")
        loss_sum = torch.nan if measured.loss_sum is None else measured.loss_sum
        counts = (measured.completion_tokens, measured.tokens, measured.predictable, asked)
        sums = torch.tensor([loss_sum, *counts], dtype=torch.float64, device=self.device)
        distributed.all_reduce(sums)
        total, completion_tokens, tokens, predictable, any_asked = (float(number) for number in sums)
        summed = MeasuredStep(
            None if measured.loss_sum is None else total,
            int(completion_tokens),
            int(tokens),
            int(predictable),
        )
        return summed, any_asked > 0

    def agreed(self, flags: tuple[bool, ...]) -> tuple[bool, ...]:
        """What process zero decided, on every process: one that went on alone would wait forever."""
        if self.count == 1:
            return flags
        distributed: Any = import_module("torch.distributed")
        decided: list[Any] = [flags]
        distributed.broadcast_object_list(decided, src=0, device=self.device)
        return decided[0]
