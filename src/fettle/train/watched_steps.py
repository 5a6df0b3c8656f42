"""The optimizer steps of a loop that is not ours: measured, kept from NaN, recorded."""

from __future__ import annotations

import time
from math import isfinite
from typing import Any

from fettle.train.adopting_recorder import AdoptingRecorder
from fettle.train.held_out import completion_share
from fettle.train.step_meter import GradientMeter, MeasuredStep, StepMeter
from fettle.train.training import Training


class WatchedSteps:
    """Hooks into the model of a training, until `close`. One step is `begin`, `measure`, `record`."""

    def __init__(self, training: Training) -> None:
        self._training = training
        self._scaled = training.loss_scaler
        self._meter = StepMeter(training.model)
        alone = training.processes.count == 1 and not training.loss_scaler
        self._gradients = GradientMeter(training.model, clip_at=training.clipped_at, probe=alone)
        self.asked = False
        """Whether a process was asked for something by the end of the step just measured."""
        self.grad_norm: float | None = None
        """Of the step just measured, before clipping."""

    def close(self) -> None:
        """Take the hooks off the model."""
        self._meter.close()
        self._gradients.close()

    def begin(self) -> None:
        """Micro-batches count from here on."""
        self._began = time.perf_counter()
        self._meter.begin()

    def measure(self, optimizer: Any, asked: bool = False) -> None:
        """The gradient is complete. Where it is not a number, the optimizer gets none.

        `asked` says whether this process was asked for something; all learn whether one was.
        """
        self._learning_rate = float(optimizer.param_groups[0]["lr"])
        self._measured, self.asked = self._training.processes.total(self._meter.end(), asked)
        self.grad_norm = self._gradients.norm()
        if self.broken and not self._scaled:
            # A loss scaler (fp16) skips such a step itself; elsewhere, weights without a
            # gradient are left alone by every optimizer.
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None

    @property
    def broken(self) -> bool:
        """Whether loss or gradient is not a number. Under a loss scaler, an overflow of the
        gradient is part of the plan."""
        measured = self._measured
        # Without a label token it is 0/0, which matters only where the gradient shows it.
        loss = bool(measured.completion_tokens) and not isfinite(measured.loss_sum or 0.0)
        return loss or (self._overflowed and not self._scaled)

    @property
    def _overflowed(self) -> bool:
        return self.grad_norm is not None and not isfinite(self.grad_norm)

    def record(self, recorder: AdoptingRecorder, step: int, epoch: float | None) -> None:
        """The step is done: write its row."""
        measured, seconds = self._measured, time.perf_counter() - self._began
        if measured.loss_sum is None or not measured.completion_tokens:
            recorder.unmeasured_step(
                step,
                epoch=epoch,
                tokens=measured.tokens,
                # Without labels there is nothing to count, which is not the same as none.
                completion_tokens=None if measured.loss_sum is None else measured.completion_tokens,
                learning_rate=self._learning_rate,
                grad_norm=self.grad_norm,
                step_time=seconds,
            )
            return
        self._compare_labels(recorder, step, measured)
        recorder.step(
            step,
            loss_sum=measured.loss_sum,
            completion_tokens=measured.completion_tokens,
            tokens=measured.tokens,
            learning_rate=self._learning_rate,
            grad_norm=self.grad_norm,
            epoch=epoch,
            seconds=seconds,
            skipped=self._scaled and self._overflowed,
        )

    def _compare_labels(self, recorder: AdoptingRecorder, step: int, measured: MeasuredStep) -> None:
        """A loop that learns prompts too has another loss than completions have: no gap between them."""
        held_out = self._training.held_out
        if held_out is None or recorder.incomparable_because is not None:
            return
        share = completion_share(held_out.eval_set)
        if measured.completion_tokens >= measured.predictable and share < 0.95:
            recorder.other_tokens(step, share)
