"""One optimizer step that was submitted to the service."""

from __future__ import annotations

from collections.abc import Sequence as Collection
from dataclasses import dataclass, field
from typing import Any

from tinker import types

from fettle.config import TrainingConfig
from fettle.data.sequence import Sequence
from fettle.train.backend import StepResult
from fettle.train.tinker.datum import completion_logprobs, datum

# Under these names the services tell the gradient norm before clipping: Tinker, SkyRL.
GRAD_NORM = ("unclipped_grad_l2:mean", "skyrl.ai/grad_norm")
# Those of torch.optim.AdamW, as in local training. The defaults of the service differ.
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass
class RemoteStep:
    """Its batch, and the requests that are on their way. A step may be submitted again on another client."""

    batch: Collection[Sequence]
    learning_rate: float
    _forward: list[tuple[Collection[Sequence], Any]] = field(
        default_factory=list[tuple[Collection[Sequence], Any]]
    )
    _update: Any = None

    @property
    def completion_tokens(self) -> int:
        return sum(sequence.completion_tokens for sequence in self.batch)

    @property
    def tokens(self) -> int:
        return sum(len(sequence) for sequence in self.batch)

    def submit(self, client: Any, config: TrainingConfig) -> None:
        """All forward and backward passes, and the update after them, without waiting for any.

        The service sums the weighted losses, so the weights make the gradient one per completion
        token of the whole step, however it is split into passes.
        """
        per_token = 1.0 / self.completion_tokens
        size = config.batch_size
        parts = [self.batch[start : start + size] for start in range(0, len(self.batch), size)]
        self._forward = [
            (part, client.forward_backward([datum(s, per_token) for s in part], "cross_entropy"))
            for part in parts
        ]
        self._update = client.optim_step(
            types.AdamParams(
                learning_rate=self.learning_rate,
                beta1=BETA1,
                beta2=BETA2,
                eps=EPSILON,
                weight_decay=config.weight_decay,
                grad_clip_norm=config.max_grad_norm or 0.0,
            )
        )

    def collect(self) -> StepResult:
        """Wait for every part of the step. Raises what the SDK raises."""
        outputs = [(part, future.result()) for part, future in self._forward]
        metrics: dict[str, float] = self._update.result().metrics or {}
        logprobs = [values for part, output in outputs for values in completion_logprobs(part, output)]
        return StepResult(
            loss_sum=-sum(float(values.sum()) for values in logprobs),
            completion_tokens=self.completion_tokens,
            tokens=self.tokens,
            grad_norm=next((metrics[name] for name in GRAD_NORM if name in metrics), None),
        )
