"""What a training loop that is not ours says of itself before its first step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fettle.train.held_out import HeldOut
from fettle.train.processes import Processes


@dataclass(frozen=True, slots=True)
class Training:
    """One training loop: its model, where it stands, how far it goes."""

    model: Any
    """A causal LM of Transformers, or a PeftModel around one, as it computes its loss."""
    name: str
    """Of the model."""
    folder: Path
    """The run folder, unless the settings name another."""
    config_yaml: str
    metadata: dict[str, Any]
    learning_rate: float
    """The highest one."""
    step: int = 0
    """Optimizer steps that the weights contain."""
    total_steps: int | None = None
    epochs: float | None = None
    held_out: HeldOut | None = None
    eval_interval_steps: int = 250
    seed: int = 42
    clipped_at: float = 0.0
    """The norm at which gradients were clipped before fettle sees them; 0: they were not."""
    loss_scaler: bool = False
    """Whether overflows of the gradient are part of the plan (fp16)."""
    counters: Mapping[str, Any] | None = None
    """What `Watch.state` gave at the checkpoint that this training goes on from."""
    checkpoint: Path | None = None
    """The folder of that checkpoint, where it has one."""
    processes: Processes = field(default_factory=Processes)

    def done(self, step: int) -> bool:
        """Whether `step` is the last one."""
        return self.total_steps is not None and step >= self.total_steps
