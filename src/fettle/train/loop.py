"""The training loop, the same for every backend: step, log, evaluate, decide, checkpoint, stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loguru import logger

from fettle.config import TrainingConfig
from fettle.data.sequence import Sequence
from fettle.decide.alerts import restart_lower
from fettle.train.backend import Backend
from fettle.train.control import Control, ControlFile, Wanted
from fettle.train.evaluation import FixedEvalSet
from fettle.train.lens_reader import LensReader
from fettle.train.order import BatchOrder
from fettle.train.pipeline import DoneStep, run_steps
from fettle.train.predictions import Predictions
from fettle.train.recorder import Judgement, Recorder
from fettle.train.signals import StopRequest
from fettle.train.state import Outcome

BUDGET = "budget"
"""Why a run ended, in its `end` record: its money is spent."""


@dataclass
class Loop:
    """One run from the step after `done` to its end."""

    config: TrainingConfig
    backend: Backend
    sequences: list[Sequence]
    fixed_eval: FixedEvalSet | None
    order: BatchOrder
    learning_rate: Callable[[int], float]
    recorder: Recorder
    done: int = 0
    """Steps that the restored checkpoint contains."""
    provenance: dict[str, Any] = field(default_factory=dict[str, Any])
    """Goes into every checkpoint's fettle.json."""
    on_step: Callable[[DoneStep], None] | None = None
    """Called after every step, for a progress bar."""
    predictions: Predictions | None = None
    on_saved: Callable[[int], None] | None = None
    """Called with the step of every checkpoint once it is on disk."""
    control_file: ControlFile | None = None
    """Requests to obey while training."""
    lenses: LensReader | None = None
    """Reads the model every so many steps."""

    def run(self) -> Outcome:
        """Train to the end, an early stop, a signal or a number that is none."""
        self._saved: tuple[int, Path] | None = None
        self._control = Control(self.control_file, self.recorder)
        with StopRequest().listening() as stop:
            for done in self._steps(stop):
                step = done.step
                self._record(done)
                if not done.result.finite:
                    return self._fail(done)
                self.done = step

                if self._measures(step):
                    self._measure_layers(step)
                judgement = self._evaluate(step) if self.evaluates(step) else None

                # What was submitted further is done first: a checkpoint holds what its name says.
                asked = self._control.obey(step) if not done.ahead else Wanted()
                if asked.stop:
                    stop.ask("stopped on request")
                ending = step == self.order.total_steps or (stop.requested and not done.ahead)
                stopping = judgement is not None and judgement.should_stop and step < self.order.total_steps
                if self._looks(step, last=stopping):
                    self._look(step)
                if self.predicts(step, last=stopping):
                    self._predict(step)
                best = judgement is not None and judgement.new_best
                if self._saves(step) or best or asked.save or stopping or ending:
                    self._checkpoint(step)

                if stopping:
                    return self._end("early_stopped", self.recorder.early_stopping.reason or "")
                if not ending:
                    self._hold(stop)
            if stop.reason == BUDGET:
                return self._out_of_budget()
            if stop.requested and self.done < self.order.total_steps:
                return self._interrupted(stop.reason or "")
        return self._end("completed", f"all {self.order.total_steps} steps are done")

    # -- the steps --------------------------------------------------------------

    def _steps(self, stop: StopRequest) -> Any:
        if self.recorder.early_stopping.stopped:
            return iter(())
        return run_steps(
            self.backend,
            first=self.done + 1,
            last=self.order.total_steps,
            batch=lambda step: [self.sequences[i] for i in self.order.batch(step)],
            learning_rate=self.learning_rate,
            read_layers=self._measures,
            boundary=lambda step: (
                any(
                    due(step)
                    for due in (self._measures, self._looks, self.evaluates, self._saves, self.predicts)
                )
                or self._control.waiting()
            ),
            stopping=lambda step: stop.requested or self._breaks_budget(step, stop),
        )

    def _breaks_budget(self, step: int, stop: StopRequest) -> bool:
        """Whether the budget does not pay for a step; the run then ends before it."""
        bill = self.backend.bill
        if bill is None or bill.affords(sum(len(self.sequences[int(i)]) for i in self.order.batch(step))):
            return False
        stop.ask(BUDGET)
        return True

    def _measures(self, step: int) -> bool:
        interval = self.config.layer_interval_steps
        return interval is not None and (step % interval == 0 or step == self.order.total_steps)

    def evaluates(self, step: int) -> bool:
        """Whether the held-out set is scored after this step."""
        if self.fixed_eval is None:
            return False
        at_end = self.config.eval_at_epoch_end and self.order.ends_epoch(step)
        return step % self.config.eval_interval_steps == 0 or at_end or step == self.order.total_steps

    def _saves(self, step: int) -> bool:
        return step % self.config.checkpoint_interval_steps == 0

    def _record(self, done: DoneStep) -> None:
        result = done.result
        self.recorder.step(
            done.step,
            loss_sum=result.loss_sum,
            completion_tokens=result.completion_tokens,
            tokens=result.tokens,
            learning_rate=done.learning_rate,
            grad_norm=result.grad_norm,
            epoch=self.order.epoch(done.step),
            seconds=done.seconds,
        )
        if done.step % self.config.log_interval_steps == 0:
            logger.info(
                "step {}/{}  loss {:.4f}  grad norm {}  learning rate {:.3g}  {:.0f} tokens/s",
                done.step,
                self.order.total_steps,
                result.loss,
                "not measured" if result.grad_norm is None else f"{result.grad_norm:.3f}",
                done.learning_rate,
                result.tokens / done.seconds if done.seconds else 0.0,
            )
        if self.on_step is not None:
            self.on_step(done)

    # -- measure, evaluate, decide ------------------------------------------------

    def _measure_layers(self, step: int) -> None:
        movement = self.backend.layer_movement
        activity = None if movement is None else movement.activity(step)
        if activity is not None:
            self.recorder.layers(activity)

    def _looks(self, step: int, *, last: bool = False) -> bool:
        last = last or step == self.order.total_steps
        return self.lenses is not None and self.lenses.due(step, last=last)

    def _look(self, step: int) -> None:
        assert self.lenses is not None
        read = self.lenses.read(self.backend.model, step)
        if read is not None:
            self.recorder.lenses(step, read)

    def _evaluate(self, step: int) -> Judgement:
        assert self.fixed_eval is not None
        started = time.perf_counter()
        samples = self.backend.evaluate(self.fixed_eval)
        judgement = self.recorder.evaluation(
            step, samples, epoch=self.order.epoch(step), seconds=time.perf_counter() - started
        )
        numbers = judgement.fields
        logger.info(
            "fixed eval at step {}: EM {}  CE {:.4f}  ECE {}{}",
            step,
            "not measured" if (match := numbers["exact_match"]) is None else f"{match:.1%}",
            numbers["cross_entropy"],
            "not measured" if (error := numbers["expected_calibration_error"]) is None else f"{error:.3f}",
            "  (best so far)" if judgement.new_best else "",
        )
        return judgement

    def predicts(self, step: int, *, last: bool = False) -> bool:
        """Whether the fixed prompts are answered after this step; `last`: it ends the run."""
        return self.predictions is not None and self.predictions.due(
            step,
            evaluated=self.evaluates(step),
            epoch_ends=self.order.ends_epoch(step),
            last=last or step == self.order.total_steps,
        )

    def _predict(self, step: int) -> None:
        assert self.predictions is not None
        rows = self.predictions.rows(self.backend.sample)
        self.recorder.predictions(step, rows, epoch=self.order.epoch(step))

    # -- checkpoint, stop -----------------------------------------------------------

    def _checkpoint(self, step: int) -> Path:
        if self._saved is not None and self._saved[0] == step:
            return self._saved[1]
        path = self.recorder.checkpoint(
            step,
            self.backend.save,
            epoch=self.order.epoch(step),
            provenance={**self.provenance, "data_position": self.order.position(step)},
        )
        logger.info("saved {}", path.name)
        self._saved = (step, path)
        if self.on_saved is not None:
            self.on_saved(step)
        return path

    def _hold(self, stop: StopRequest) -> None:
        """Sleep while paused."""
        while self._control.paused:
            asked = self._control.hold(self.done, stopping=lambda: stop.requested, saved=False)
            if asked.save:
                self._checkpoint(self.done)
            if asked.stop:
                stop.ask("stopped on request")

    def _fail(self, done: DoneStep) -> Outcome:
        last_good = self.recorder.last_checkpoint
        cure = restart_lower(None if last_good is None else last_good.name, self.config.learning_rate)
        weights = "may have been" if self.backend.applies_non_finite else "were not"
        message = (
            f"Loss or gradient is not a number at step {done.step}; the weights {weights} changed by it."
        )
        return self._end("failed", f"{message} {cure}")

    def _interrupted(self, signal: str) -> Outcome:
        if self.done:
            self._checkpoint(self.done)
        return self._end("interrupted", f"{signal} at step {self.done}; the same command goes on from here")

    def _out_of_budget(self) -> Outcome:
        if self.done:
            self._checkpoint(self.done)
        bill = self.backend.bill
        assert bill is not None
        return self._end("early_stopped", bill.exhausted, cause=BUDGET, budget_usd=bill.budget)

    def _end(self, state: Any, reason: str, **more: Any) -> Outcome:
        self.recorder.end(state, step=self.done, reason=reason, **more)
        logger.info("{} at step {}: {}", state.replace("_", " "), self.done, reason)
        return Outcome(
            run=self.recorder.folder.path,
            state=state,
            step=self.done,
            reason=reason,
            checkpoint=self.recorder.last_checkpoint,
        )
