"""A few entries of a weight, kept to see how far it moves without a copy of the model."""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch import Tensor

from fettle.train.lora_update import exact

# The ratio of two norms over n entries has a relative error of about 1 / sqrt(n).
SAMPLES = 4096


class SampledWeight:
    """How far a trained weight moved, by entries drawn evenly with replacement; all of a small weight.

    Both squared norms are the sample's times `numel / n`: unbiased estimates. Which entries are
    drawn depends on the weight's name and size alone.
    """

    def __init__(self, model: Any, name: str, *, samples: int = SAMPLES) -> None:
        # By name: whoever loads a checkpoint may put another tensor in its place.
        self._owner = model.get_submodule(name.rpartition(".")[0])
        self._name = name.rpartition(".")[2]
        count = self._weight.numel()
        if count <= samples:
            index = torch.arange(count)
        else:
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            # In order of memory, which is faster to read.
            index = torch.randint(count, (samples,), generator=generator).sort().values
        self._index = index.to(self._weight.device)
        self._start = self._entries()

    def parameters(self) -> list[Any]:
        """What is trained here."""
        return [self._weight]

    def movement_square(self) -> Tensor:
        """Estimate of ‖W - W0‖²_F, a scalar on the device."""
        return (exact(self._entries()) - exact(self._start)).square().sum() * self._share

    def weight_square(self) -> Tensor:
        """Estimate of ‖W0‖²_F."""
        return exact(self._start).square().sum() * self._share

    def state(self) -> dict[str, Tensor]:
        """The entries as they were at the start, and where they are."""
        return {"entries": self._start, "index": self._index}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Begin where `state` says."""
        self._start = state["entries"].to(self._start)
        self._index = state["index"].to(self._index)

    @property
    def _weight(self) -> Any:
        return getattr(self._owner, self._name)

    @property
    def _share(self) -> float:
        """Entries of the weight for each that is read."""
        return self._weight.numel() / self._index.numel()

    def _entries(self) -> Tensor:
        # `take` reads by position in any layout, without a copy of the weight.
        return torch.take(self._weight.detach(), self._index)
