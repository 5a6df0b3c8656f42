"""How far each layer of a model in training moved, and how large its gradient is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from io import BytesIO
from math import hypot, isfinite
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor

from fettle.metrics.layers import ModuleNorms, Place, group_movements
from fettle.metrics.module_names import layer_and_group
from fettle.runs.folder import replace_file
from fettle.runs.records import GroupMovement, LayerActivity
from fettle.train.lora_movements import movement_squares
from fettle.train.lora_update import LoraUpdate, exact, lora_updates
from fettle.train.sampled_weight import SAMPLES, SampledWeight

# Not .safetensors: servers take every such file of a folder for weights of the model.
START_FILE = "layer_start.pt"
Key = TypeVar("Key")


class LayerMovement:
    """Made before the first step, it remembers where the weights began; `measure` says how far they are.

    Low-rank updates are measured exactly, weights that are trained themselves by a sample of
    their entries. Nothing happens between two measurements, each waits for the device once, and
    neither weights nor random state are touched. Vectors (norms, biases) are left out.
    """

    def __init__(self, model: Any, *, samples: int = SAMPLES) -> None:
        self._updates = lora_updates(model)
        self.method: Literal["lora", "full"] = "lora" if self._updates else "full"
        self._weights = {
            name: SampledWeight(model, name, samples=samples)
            for name, p in model.named_parameters()
            if p.ndim > 1 and p.requires_grad and "lora_" not in name and _is_here(p)
        }
        self._parts: dict[str, LoraUpdate | SampledWeight] = {**self._updates, **self._weights}
        self._model = model
        self._since_step = 0
        self._seconds = 0.0
        self._weight_squares: dict[str, float | None] | None = None
        self._grad_norms: dict[Place, float] = {}

    def activity(self, step: int) -> LayerActivity | None:
        """What to record after `step`, with the time it took; None where nothing can be measured."""
        if not self._parts:
            return None
        _finish_device_work()
        started = time.perf_counter()
        groups = self.measure()
        seconds = self._seconds + time.perf_counter() - started
        self._seconds = 0.0
        return LayerActivity(step, self.method, groups, since_step=self._since_step, seconds=seconds)

    @torch.no_grad()
    def measure(self) -> list[GroupMovement]:
        """Movement since the start by layer and group, with the gradient norms read since the last time."""
        if self._weight_squares is None:
            self._weight_squares = _numbers({n: part.weight_square() for n, part in self._parts.items()})
        moved = _numbers(
            {
                **movement_squares(self._updates),
                **{name: weight.movement_square() for name, weight in self._weights.items()},
            }
        )
        modules = [
            ModuleNorms(
                name=name,
                movement_square=0.0 if square < 0 else square,  # rounding; NaN stays
                weight_square=self._weight_squares[name],
            )
            for name, square in moved.items()
            if square is not None
        ]
        groups = group_movements(modules, self._grad_norms)
        self._grad_norms = {}
        return groups

    @torch.no_grad()
    def read_gradients(self, grad_norm: float | None) -> None:
        """Norms of the gradients as they stand after clipping, scaled back to `grad_norm`.

        `grad_norm` is the norm of all gradients before clipping; without it the scale is
        unknown and nothing is read.
        """
        started = time.perf_counter()
        self._grad_norms = {} if grad_norm is None else self._scaled_to(grad_norm)
        self._seconds = time.perf_counter() - started

    def _scaled_to(self, grad_norm: float) -> dict[Place, float]:
        places = {
            id(p): layer_and_group(name) for name, part in self._parts.items() for p in part.parameters()
        }
        trained = [p for p in self._model.parameters() if p.grad is not None]
        if not trained:
            return {}
        library: Any = torch
        scalars: list[Tensor] = library._foreach_norm([p.grad for p in trained])
        norms = _numbers(dict(enumerate(scalars)))
        total = hypot(*(norms[i] or 0.0 for i in norms))
        scale = grad_norm / total if isfinite(total) and total > 0 else 1.0
        found: dict[Place, float] = {}
        for i, parameter in enumerate(trained):
            place = places.get(id(parameter))
            if place is not None:
                found[place] = hypot(found.get(place, 0.0), scale * (norms[i] or 0.0))
        return found

    def save(self, folder: Path) -> None:
        """Write where the weights began beside a checkpoint. Raises OSError where it cannot."""
        states = {name: part.state() for name, part in self._parts.items()}
        buffer = BytesIO()
        torch.save({"since_step": self._since_step, "parts": states}, buffer)
        replace_file(folder / START_FILE, buffer.getvalue())

    def restore(self, folder: Path, step: int) -> bool:
        """Begin where the run of that checkpoint began; where it does not tell, at `step`, and False."""
        stored = _stored(folder / START_FILE)
        if stored is None or stored["parts"].keys() != self._parts.keys():
            self._since_step = step
            return False
        for name, part in self._parts.items():
            part.load_state(stored["parts"][name])
        self._since_step = int(stored["since_step"])
        self._weight_squares = None
        return True


def _stored(file: Path) -> dict[str, Any] | None:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, UnpicklingError, EOFError):
        return None


def _finish_device_work() -> None:
    """What the optimizer still computes is not part of the measurement."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _numbers(scalars: Mapping[Key, Tensor | None]) -> dict[Key, float | None]:
    """Scalars of any device as numbers, waiting for each device once."""
    known = {key: scalar for key, scalar in scalars.items() if scalar is not None}
    if len({scalar.device for scalar in known.values()}) > 1:
        known = {key: scalar.cpu() for key, scalar in known.items()}
    found: dict[Key, float | None] = dict.fromkeys(scalars)
    if known:
        values_N: Any = torch.stack([exact(scalar) for scalar in known.values()])
        found.update(zip(known, cast("list[float]", values_N.tolist()), strict=True))
    return found


def _is_here(parameter: Any) -> bool:
    """Whether the whole weight is in this process's memory."""
    return not parameter.is_meta and not hasattr(parameter, "full_tensor")
