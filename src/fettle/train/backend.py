"""What the loop needs of whatever does the arithmetic: this machine's devices or a service."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Collection
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fettle.data.sequence import Sequence
from fettle.train.bill import Bill

if TYPE_CHECKING:
    from fettle.runs.records import SampleResults
    from fettle.scoring.generate import Continuation
    from fettle.train.evaluation import FixedEvalSet
    from fettle.train.layer_movement import LayerMovement


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one optimizer step measured, over every sequence of the step."""

    loss_sum: float
    """Cross-entropy in nats, summed over the completion tokens."""
    completion_tokens: int
    tokens: int
    """All tokens that went through the model, padding left out."""
    grad_norm: float | None
    """Global gradient norm before clipping; None where the backend does not tell."""

    @property
    def loss(self) -> float:
        """Cross-entropy in nats per completion token."""
        return self.loss_sum / self.completion_tokens

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are numbers."""
        return isfinite(self.loss_sum) and (self.grad_norm is None or isfinite(self.grad_norm))


class PendingStep(Protocol):
    """A step that was submitted; `result` waits for it."""

    def result(self) -> StepResult: ...


@dataclass(frozen=True, slots=True)
class FinishedStep:
    """A step whose result was there at once, as it is on a local device."""

    value: StepResult

    def result(self) -> StepResult:
        return self.value


class Backend(Protocol):
    """Steps, scores, saves and loads one model. Calls come from one thread, in order."""

    lookahead: int
    """Steps to submit beyond the one awaited: 0 on a local device, 1 where the service idles meanwhile."""

    applies_non_finite: bool
    """Whether a step is applied before anybody can see that its loss is no number."""

    @property
    def model(self) -> Any:
        """The model that is trained; None where its weights are elsewhere."""
        ...

    layer_movement: LayerMovement | None
    """Measures how far the layers moved; None where nobody asked or the weights are elsewhere."""

    @property
    def bill(self) -> Bill | None:
        """What a service charges; None on a local device."""
        ...

    def step(
        self, batch: Collection[Sequence], learning_rate: float, *, read_layers: bool = False
    ) -> PendingStep:
        """Forward, backward and one optimizer step; the gradient is per completion token of the batch.

        A non-finite loss or gradient leaves the weights as they were, unless `applies_non_finite`.
        `read_layers` keeps the gradient norm of each layer for the measurement that follows.
        """
        ...

    def evaluate(self, eval_set: FixedEvalSet) -> SampleResults:
        """Teacher-forced results per sample; leaves train mode and random state as they were."""
        ...

    def sample(
        self, prompts: Collection[Collection[int]], *, max_new_tokens: int, ends: Collection[int] = ()
    ) -> list[Continuation] | None:
        """Greedy continuations of token prompts; leaves train mode and random state as they were.

        `ends` are tokens that end a turn in the data, beside those the model knows. None where the service
        does not sample.
        """
        ...

    def save(self, folder: Path) -> Mapping[str, Any] | None:
        """Write weights, optimizer and random state into an existing, empty folder.

        A service keeps them itself: what `load` needs to find them there is returned, for fettle.json.
        """
        ...

    def load(self, folder: Path) -> None:
        """Restore exactly what `save` wrote. Raises RunError naming a missing part."""
        ...

    def forget(self, url: str) -> None:
        """Have the service delete the checkpoint it keeps at `url`. Raises RunError where it does not."""
        ...

    def provenance(self) -> dict[str, Any]:
        """What `metadata.json` should say of model, device and library versions."""
        ...
