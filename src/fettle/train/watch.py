"""Watching a training loop that is not ours: what to do at each of its events."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from loguru import logger

from fettle.errors import RunError
from fettle.runs.records import State
from fettle.scoring import generate
from fettle.train.adopting_recorder import AdoptingRecorder
from fettle.train.control import Control, ControlFile, Wanted
from fettle.train.layer_movement import LayerMovement
from fettle.train.live_run import claim_folder, ended_by, start_recorder
from fettle.train.notifier import Notifier
from fettle.train.predictions import Predictions
from fettle.train.recorder import Judgement
from fettle.train.training import Training
from fettle.train.watch_settings import WatchSettings
from fettle.train.watched_steps import WatchedSteps


class Watch:
    """One training, from `Training` to `end`: steps are measured and recorded, held-out chats scored.

    The events of each step, in this order: `step_begins`, `gradients_ready`, `step_ends`, and
    where it returned True, `evaluate` when `evaluates`, then `predict`, `obey`, and `hold` once what
    is to be saved is. Every process tells them; the first one records.
    """

    def __init__(self, settings: WatchSettings, training: Training) -> None:
        """Open the run folder and hook into the model. Raises RunError, ConfigError."""
        self.step = training.step
        self.recorder: AdoptingRecorder | None = None
        """Writes the run folder; None on all processes but the first."""
        self.failure: str | None = None
        """Why training must not go on."""
        self.stopped = False
        """Whether early stopping ended it."""
        self.evaluated: int | None = None
        """The last step whose weights were scored."""
        self._predicted: int | None = None
        self._looked: int | None = None
        self._settings, self._training = settings, training
        self._layers: LayerMovement | None = None
        self._predictions: Predictions | None = None
        self._open = ExitStack()
        try:
            requests = None
            if training.processes.rank == 0:
                requests = self._record_run()
                self._watch_layers()
            self.control = Control(requests, self.recorder, training.processes.agreed)
            self._steps = WatchedSteps(training)
            self._open.callback(self._steps.close)
        except BaseException:
            self._open.close()
            raise

    def _record_run(self) -> ControlFile:
        settings, training = self._settings, self._training
        held_out, bins = training.held_out, settings.patterns_config.length_bins
        if settings.lenses is not None:
            settings.lenses.check(training.name)
        fixed_eval = {} if held_out is None else {"fixed_eval": held_out.description}
        folder = claim_folder(
            settings.out or training.folder,
            config_yaml=training.config_yaml,
            metadata={**training.metadata, "data": fixed_eval, "patterns": {"length_bins": bins}},
            goes_on=training.step > 0,
            opened=self._open,
        )
        requests = ControlFile(folder.control_path)
        self.recorder = AdoptingRecorder(
            folder,
            early_stopping=settings.early_stopping(),
            total_steps=training.total_steps,
            length_bins=bins,
            alerts=settings.alerts_config,
            notifier=Notifier(settings.notify_config),
        )
        start_recorder(
            self.recorder,
            step=training.step,
            counters=training.counters,
            checkpoint=training.checkpoint,
            epochs=training.epochs,
            learning_rate=training.learning_rate,
        )
        if settings.lenses is not None:
            settings.lenses.begin(training.model, folder, training.step)
        if held_out is not None:
            self._predictions = Predictions(
                held_out.eval_set, held_out.tokenizer, settings.predictions_config, seed=training.seed
            )
        return requests

    def _watch_layers(self) -> None:
        """Remember where the weights began. A loop that resumes has loaded the later ones already."""
        if self._settings.layer_interval_steps is None:
            return
        self._layers = LayerMovement(self._training.model)
        resumed = self._training.checkpoint
        if self.step and resumed and not self._layers.restore(resumed, self.step):
            logger.warning("{} does not say where the weights began: layers move from here on", resumed)

    # -- a step --------------------------------------------------------------------

    def step_begins(self) -> None:
        """Micro-batches count from here on."""
        self._steps.begin()

    def gradients_ready(self, optimizer: Any) -> None:
        """Measure the gradient; one that is not a number never reaches the weights."""
        began = time.perf_counter()
        self._steps.measure(optimizer, asked=self.control.waiting())
        if self.recorder is not None:
            self.recorder.spent(time.perf_counter() - began)
        if self._layers is not None and self._measures_layers(self.step + 1):
            self._layers.read_gradients(self._steps.grad_norm)

    def step_ends(self, step: int, *, epoch: float | None = None) -> bool:
        """Record the step. False where it was not a number: training must end without a checkpoint."""
        self.step = step
        if self.recorder is not None:
            self._steps.record(self.recorder, step, epoch)
        if self._steps.broken:
            self.failure = f"Loss or gradient is not a number at step {step}"
            if self.recorder is not None:
                self.failure = self.recorder.not_a_number(self.failure, self._training.learning_rate)
            return False
        if self._layers is not None and self.recorder is not None and self._measures_layers(step):
            activity = self._layers.activity(step)
            if activity is not None:
                self.recorder.layers(activity)
        self._look(last=self._training.done(step))
        return True

    def _look(self, *, last: bool) -> None:
        """Have the lenses read these weights, where they are due and did not."""
        lenses = self._settings.lenses
        if self.recorder is None or lenses is None or self._looked == self.step:
            return
        if lenses.due(self.step, last=last):
            self._looked = self.step
            read = lenses.read(self._training.model, self.step)
            if read is not None:
                self.recorder.lenses(self.step, read)

    def _measures_layers(self, step: int) -> bool:
        interval = self._settings.layer_interval_steps
        return interval is not None and (step % interval == 0 or self._training.done(step))

    # -- evaluate, decide ------------------------------------------------------------

    def evaluates(self, *, epoch_ends: bool) -> bool:
        """Whether the weights are to be scored now."""
        if self._training.held_out is None or self.evaluated == self.step:
            return False
        return (
            self.step % self._training.eval_interval_steps == 0
            or epoch_ends
            or self._training.done(self.step)
        )

    def evaluate(self, *, epoch: float | None = None) -> tuple[bool, bool]:
        """Score the held-out chats: whether this is a new best, and whether to stop. All processes agree."""
        judgement = self._judge(epoch)
        best = judgement is not None and judgement.new_best
        stop = judgement is not None and judgement.should_stop
        best, stop = self._training.processes.agreed((best, stop))
        self.stopped = stop and not self._training.done(self.step)
        if self.stopped:
            self._look(last=True)
        return best, self.stopped

    def _judge(self, epoch: float | None) -> Judgement | None:
        self.evaluated = self.step
        if self._training.held_out is None:
            return None
        began = time.perf_counter()
        batch_tokens = self._settings.batch_tokens
        samples = self._training.held_out.evaluate(self._training.model, batch_tokens=batch_tokens)
        if self.recorder is None:
            return None
        seconds = time.perf_counter() - began
        try:
            judgement = self.recorder.evaluation(self.step, samples, epoch=epoch, seconds=seconds)
        except OSError as error:
            self.recorder.write_failed(self.step, "The fixed eval cannot be kept", error)
            return None
        logger.info(
            "fixed eval at step {}: EM {:.1%}  CE {:.4f}{}",
            self.step,
            judgement.fields["exact_match"],
            judgement.fields["cross_entropy"],
            "  (best so far)" if judgement.new_best else "",
        )
        return judgement

    def predict(self, *, epoch: float | None = None, epoch_ends: bool) -> None:
        """Have the fixed prompts answered, where these weights are to answer them."""
        if self.recorder is None or self._predictions is None or self._predicted == self.step:
            return
        evaluated, last = self.evaluated == self.step, self.stopped or self._training.done(self.step)
        if self._predictions.due(self.step, evaluated=evaluated, epoch_ends=epoch_ends, last=last):
            self._predicted = self.step
            assert self._training.held_out is not None
            sample = partial(generate, self._training.model, self._training.held_out.tokenizer)
            rows = self._predictions.rows(sample)
            self.recorder.predictions(self.step, rows, epoch=epoch)

    # -- requests --------------------------------------------------------------------

    def obey(self) -> Wanted:
        """What people asked for until the end of the step. All processes agree."""
        asked, self._steps.asked = self._steps.asked, False
        return self.control.obey(self.step) if asked else Wanted()

    def hold(self, *, saved: bool = False, stopping: Callable[[], bool] = lambda: False) -> Wanted:
        """Sleep while the run is paused: until it is resumed, stopped or, where it is not `saved`, to be."""
        if self._training.done(self.step):
            return Wanted()  # Nothing is left to pause.
        return self.control.hold(self.step, saved=saved, stopping=stopping)

    # -- checkpoints, the end -----------------------------------------------------------

    @property
    def provenance(self) -> dict[str, Any]:
        """What a checkpoint says of where it comes from."""
        held_out = self._training.held_out
        fingerprint = None if held_out is None else held_out.description["fingerprint"]
        return {"model": self._training.name, "fixed_eval": fingerprint}

    def saved(self, path: Path, *, epoch: float | None = None) -> None:
        """Score the checkpoint that the loop just wrote to `path`."""
        if self.recorder is None or not path.is_dir():
            return
        if self._layers is not None:
            try:
                self._layers.save(path)
            except OSError as error:
                self.recorder.write_failed(self.step, f"{path}: where layers began cannot be written", error)
        self.recorder.adopt(self.step, path, epoch=epoch, provenance=self.provenance)

    def save(self, *, epoch: float | None = None) -> None:
        """Write model and tokenizer as a scored checkpoint into the run folder, for loops that do not."""
        if self.recorder is None:
            return

        def fill(folder: Path) -> None:
            self._training.model.save_pretrained(folder)
            if self._training.held_out is not None:
                self._training.held_out.tokenizer.save_pretrained(folder)
            if self._layers is not None:
                self._layers.save(folder)

        try:
            self.recorder.checkpoint(self.step, fill, epoch=epoch, provenance=self.provenance)
        except RunError as error:
            self.recorder.write_failed(self.step, "A new best cannot be kept", OSError(str(error)))

    def state(self) -> dict[str, Any]:
        """Counters for a checkpoint; {} where nothing is recorded."""
        return {} if self.recorder is None else self.recorder.state_dict(self.step)

    def end(self, error: BaseException | None = None) -> None:
        """Say how training ended, where need be by which exception, and close."""
        if self.recorder is not None:
            how, reason = ended_by(error, self.step) if error else self._outcome(self.recorder)
            self.recorder.end(how, step=self.step, reason=reason)
            logger.info("{} at step {}: {}", how.replace("_", " "), self.step, reason)
        self.close()

    def _outcome(self, recorder: AdoptingRecorder) -> tuple[State, str]:
        total = self._training.total_steps
        if self.failure is not None:
            return "failed", self.failure
        if self.stopped:
            return "early_stopped", recorder.early_stopping.reason or ""
        if self._training.done(self.step) or (total is None and not self.control.stopped):
            return "completed", f"all {self.step if total is None else total} steps are done"
        who = "stopped on request" if self.control.stopped else "the trainer stopped"
        return "interrupted", f"{who} at step {self.step}" + ("" if total is None else f" of {total}")

    def close(self) -> None:
        """Let go of the model and of the folder; what is recorded stays."""
        self.recorder = self._layers = None
        self._open.close()
