"""Learning rate as a pure function of the step, so that a resume has nothing to restore."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

from fettle.errors import ConfigError


def learning_rate_schedule(
    name: str, *, peak: float, warmup_ratio: float, total_steps: int
) -> Callable[[int], float]:
    """Transformers' schedule of this name: step (from 1) to learning rate.

    Step k uses the factor that `Trainer` uses for its k-th optimizer step, so
    that curves compare. Raises ConfigError for schedules that need the loss.
    """
    import torch

    transformers: Any = import_module("transformers")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    try:
        scheduler: Any = transformers.get_scheduler(
            name,
            optimizer,
            num_warmup_steps=math.ceil(warmup_ratio * total_steps),
            num_training_steps=total_steps,
        )
        factor: Callable[[int], float] = scheduler.lr_lambdas[0]
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"training.lr_schedule: '{name}' cannot be used as a function of the step ({error}). "
            "Use constant, constant_with_warmup, linear, cosine or polynomial."
        ) from error
    return lambda step: peak * float(factor(step - 1))
