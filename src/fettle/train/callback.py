"""fettle for any Hugging Face Trainer or TRL trainer, as one callback."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from transformers.trainer_callback import ExportableState, TrainerCallback

from fettle.train.adopting_recorder import AdoptingRecorder
from fettle.train.control import Wanted
from fettle.train.processes import Processes
from fettle.train.provenance import model_name
from fettle.train.trainer_arguments import config_yaml, eval_interval, max_length, metadata, refuse_sharded
from fettle.train.training import Training
from fettle.train.watch import Watch
from fettle.train.watch_settings import WatchSettings


class FettleCallback(WatchSettings, TrainerCallback, ExportableState):
    """Records, evaluates, stops early and scores checkpoints of a trainer that is not ours.

    `trainer.add_callback(FettleCallback(fixed_eval="valid.jsonl"))` is all there is to it:
    every optimizer step goes into a run folder with the loss per label token; the held-out
    chats are scored every `eval_interval_steps` and at the end of each epoch; training stops
    after `early_stopping_patience` evals without improvement, and within a step when loss or
    gradient is not a number; a new best is saved, and every checkpoint carries its score in
    fettle.json. What is trained stays the same to the last bit.

    Counters go into the trainer's own checkpoints and come back from them. Errors in what was
    asked for are raised before the first step; a disk that fills up later stops nothing.
    """

    _watch: Watch | None = None
    _best: int | None = None

    @property
    def recorder(self) -> AdoptingRecorder | None:
        """Writes the run folder while training runs; None before it, and on other processes."""
        return None if self._watch is None else self._watch.recorder

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the run folder, encode the held-out chats, hook into the model."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        refuse_sharded(args)
        model, step = kwargs["model"], int(state.global_step)
        # A checkpoint from before this callback was added lacks its entry, and saving would fail.
        stored = state.stateful_callbacks.setdefault(type(self).__name__, self.state())
        counters = _recorder_state(stored) if step else None
        self._best = None
        if counters and args.metric_for_best_model is None:
            state.best_global_step = self._best = counters["early_stopping"]["best_step"]
        name = model_name(model)
        training = Training(
            model=model,
            name=name,
            folder=Path(args.output_dir) / "fettle",
            config_yaml=config_yaml(self.settings(), args, name),
            metadata=metadata(args, model, name),
            learning_rate=float(args.learning_rate),
            step=step,
            total_steps=int(state.max_steps),
            epochs=state.num_train_epochs,
            held_out=self._held_out(
                kwargs.get("processing_class"),
                max_length(args, model),
                int(args.seed),
                "Give the trainer processing_class=tokenizer.",
            ),
            eval_interval_steps=self.eval_interval_steps or eval_interval(args, state),
            seed=int(args.seed),
            clipped_at=args.max_grad_norm or 0.0,
            loss_scaler=bool(args.fp16),
            counters=counters,
            checkpoint=_checkpoint(args, step) if step else None,
            processes=Processes(args.process_index, args.world_size, args.device),
        )
        self._watch = Watch(self, training)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Micro-batches count from here on."""
        self._watching.step_begins()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure the gradient; one that is not a number never reaches the weights."""
        self._watching.gradients_ready(kwargs["optimizer"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Record the step; evaluate, ask for a checkpoint, stop."""
        watch, epoch = self._watching, _epoch(state)
        if not watch.step_ends(int(state.global_step), epoch=epoch):
            control.should_training_stop, control.should_save = True, False
            return control
        self._evaluate(state, control, epoch_ends=epoch is not None and epoch.is_integer())
        _heed(watch.obey(), control)
        # What is due is saved first: see on_save.
        if not control.should_save:
            _heed(watch.hold(), control)
        return control

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Epochs that end where the trainer could not foresee it are evaluated here."""
        if self._watching.failure is not None:
            control.should_save = False
        elif self._watching.step:
            self._evaluate(state, control, epoch_ends=True)
        return control

    def _evaluate(self, state: Any, control: Any, *, epoch_ends: bool) -> None:
        watch, epoch = self._watching, _epoch(state)
        if watch.evaluates(epoch_ends=epoch_ends):
            best, stop = watch.evaluate(epoch=epoch)
            if best:
                self._best = watch.step
                control.should_save = control.should_save or self.keep_best
            if stop:
                control.should_training_stop = True
        watch.predict(epoch=epoch, epoch_ends=epoch_ends)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Score the checkpoint that the trainer just wrote; sleep while the run is paused."""
        watch, path = self._watching, _checkpoint(args, state.global_step)
        if self._best == watch.step and args.metric_for_best_model is None:
            # What the trainer knows as its best outlives `save_total_limit`. Told on every process,
            # for those that know of a best wait for each other at the next save.
            state.best_model_checkpoint, state.best_global_step = str(path), watch.step
        watch.saved(path, epoch=_epoch(state))
        if watch.hold(saved=True).stop:
            control.should_training_stop = True
        return control

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the run."""
        self._watching.end()

    def state(self) -> dict[str, Any]:
        """What the trainer puts into trainer_state.json of every checkpoint."""
        recorded = {} if self._watch is None else self._watch.state()
        return {"args": self.settings(), "attributes": {"stored": recorded}}

    @property
    def _watching(self) -> Watch:
        assert self._watch is not None, "training has not begun"
        return self._watch


def _heed(wanted: Wanted, control: Any) -> None:
    """Have the trainer save, stop, or both."""
    if wanted.save or wanted.stop:
        control.should_save = True
    if wanted.stop:
        control.should_training_stop = True


def _checkpoint(args: Any, step: int) -> Path:
    return Path(args.output_dir) / f"checkpoint-{step}"


def _epoch(state: Any) -> float | None:
    return None if state.epoch is None else float(state.epoch)


def _recorder_state(stored: Any) -> dict[str, Any] | None:
    """The recorder's counters out of what `FettleCallback.state` put into a checkpoint."""
    first: Any = cast("list[Any]", stored)[0] if isinstance(stored, list) else stored
    return first["attributes"]["stored"] or None
