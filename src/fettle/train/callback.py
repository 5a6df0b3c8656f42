"""fettle for any Hugging Face Trainer or TRL trainer, as one callback."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any, Literal, cast

from loguru import logger
from transformers.trainer_callback import ExportableState, TrainerCallback

from fettle.config import AlertsConfig, NotifyConfig, PatternsConfig, PredictionsConfig, check_section
from fettle.decide.early_stop import EarlyStopping
from fettle.errors import RunError
from fettle.runs import RunFolder
from fettle.runs.folder import replace_file
from fettle.runs.logs import FILE_FORMAT, FoldingSink
from fettle.runs.records import State
from fettle.scoring import generate
from fettle.train.adopting_recorder import AdoptingRecorder
from fettle.train.evaluation import FixedEvalSet, sample_results
from fettle.train.held_out import completion_share, load_fixed_eval
from fettle.train.layer_movement import LayerMovement
from fettle.train.notifier import Notifier
from fettle.train.predictions import Predictions
from fettle.train.processes import agreed, over_processes
from fettle.train.recorder import Judgement
from fettle.train.shared_scoring import shared_score
from fettle.train.step_meter import GradientMeter, MeasuredStep, StepMeter
from fettle.train.trainer_arguments import config_yaml, eval_interval, max_length, metadata, refuse_sharded

SETTINGS = (
    "fixed_eval",
    "out",
    "eval_interval_steps",
    "early_stopping_patience",
    "early_stopping_threshold",
    "early_stopping_relative",
    "max_samples",
    "max_seq_length",
    "train_on",
    "batch_tokens",
    "keep_best",
    "layer_interval_steps",
    "patterns",
    "predictions",
    "alerts",
    "notify",
)

# Runs this process writes. A trainer that raised never says that it ended: the next one of
# the same folder takes over instead of finding its own process in the way.
_held: dict[Path, ExitStack] = {}


class FettleCallback(TrainerCallback, ExportableState):
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

    def __init__(
        self,
        fixed_eval: str | Path | None = None,
        *,
        out: str | Path | None = None,
        eval_interval_steps: int | None = None,
        early_stopping_patience: int = 5,
        early_stopping_threshold: float = 0.01,
        early_stopping_relative: float | None = None,
        max_samples: int = 2000,
        max_seq_length: int | None = None,
        train_on: Literal["all", "last"] = "all",
        batch_tokens: int | None = None,
        keep_best: bool = True,
        layer_interval_steps: int | None = 250,
        patterns: Mapping[str, Any] | None = None,
        predictions: Mapping[str, Any] | None = None,
        alerts: Mapping[str, Any] | None = None,
        notify: Mapping[str, Any] | None = None,
    ) -> None:
        """See the fields of a fettle configuration of the same names.

        `out` is the run folder, by default `fettle` in the trainer's output folder.
        `eval_interval_steps` is by default the trainer's own interval of evaluation, else of
        saving, else 250. `max_seq_length` is by default the trainer's `max_length`, else the
        context of the model. `keep_best` saves a checkpoint at every new best. Every
        `layer_interval_steps` it is measured how far each layer moved; None: never. `patterns` and
        `predictions`, `alerts` and `notify` hold keys of the sections of those names, by default
        their defaults. Raises ConfigError for wrong ones.
        """
        self.alerts = dict(alerts or {})
        self.notify = dict(notify or {})
        self._thresholds = check_section(AlertsConfig, alerts, "FettleCallback(alerts=...)")
        self._notify = check_section(NotifyConfig, notify, "FettleCallback(notify=...)")
        self.fixed_eval = None if fixed_eval is None else Path(fixed_eval)
        self.out = None if out is None else Path(out)
        self.eval_interval_steps = eval_interval_steps
        self.early_stopping_patience = early_stopping_patience
        self.early_stopping_threshold = early_stopping_threshold
        self.early_stopping_relative = early_stopping_relative
        self.max_samples = max_samples
        self.max_seq_length = max_seq_length
        self.train_on: Literal["all", "last"] = train_on
        self.batch_tokens = batch_tokens
        self.keep_best = keep_best
        self.layer_interval_steps = layer_interval_steps
        self.patterns = dict(patterns or {})
        self.predictions = dict(predictions or {})
        self._patterns = check_section(PatternsConfig, self.patterns, "FettleCallback(patterns=...)")
        self._predictions_config = check_section(
            PredictionsConfig, self.predictions, "FettleCallback(predictions=...)"
        )
        self.recorder: AdoptingRecorder | None = None
        """Writes the run folder while training runs; None before it, and on other processes."""
        self._open = ExitStack()
        self._eval_set: FixedEvalSet | None = None
        self._layers: LayerMovement | None = None
        self._predictions: Predictions | None = None
        self._tokenizer: Any = None
        self._provenance: dict[str, Any] = {}
        self._step = 0
        self._evaluated: int | None = None
        self._predicted: int | None = None
        self._best: int | None = None
        self._failure: str | None = None
        self._stopping = False

    # -- the trainer's events ------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the run folder, encode the held-out chats, hook into the model."""
        self._close()
        model = kwargs["model"]
        self._step = int(state.global_step)
        self._best = self._evaluated = self._predicted = self._failure = None
        self._stopping = False
        self._interval = self.eval_interval_steps or eval_interval(args, state)
        self._scaled = bool(args.fp16)
        # A checkpoint from before this callback was added lacks its entry, and saving would fail.
        stored = state.stateful_callbacks.setdefault(type(self).__name__, self.state())
        restored = _recorder_state(stored) if self._step else None
        if restored and args.metric_for_best_model is None:
            state.best_global_step = self._best = restored["early_stopping"]["best_step"]
        refuse_sharded(args)
        with ExitStack() as opened:
            data = self._load_fixed_eval(args, model, kwargs.get("processing_class"))
            if state.is_world_process_zero:
                folder = self._open_folder(args, state, model, data, opened)
                self._start(folder, args, state, restored, opened)
                self._watch_layers(args, model)
            self._meter = StepMeter(model)
            opened.callback(self._meter.close)
            alone = args.world_size == 1 and not args.fp16
            self._gradients = GradientMeter(model, clip_at=args.max_grad_norm or 0.0, probe=alone)
            opened.callback(self._gradients.close)
            self._open = opened.pop_all()
            if self.recorder is not None:
                _held[self.recorder.folder.path] = self._open

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Micro-batches count from here on."""
        self._began = time.perf_counter()
        self._meter.begin()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure the gradient; one that is not a number never reaches the weights."""
        optimizer = kwargs["optimizer"]
        began = time.perf_counter()
        self._learning_rate = float(optimizer.param_groups[0]["lr"])
        self._measured = over_processes(self._meter.end(), args)
        self._grad_norm = self._gradients.norm()
        if self._broken() and not self._scaled:
            # A loss scaler (fp16) skips such a step itself; elsewhere, weights without a
            # gradient are left alone by every optimizer.
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None
        if self.recorder is not None:
            self.recorder.spent(time.perf_counter() - began)
        if self._layers is not None and self._measures(int(state.global_step) + 1, state):
            self._layers.read_gradients(self._grad_norm)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Record the step; evaluate, ask for a checkpoint, stop."""
        self._step = int(state.global_step)
        self._record(state)
        if self._broken():
            self._fail()
            control.should_training_stop, control.should_save = True, False
            return control
        if self._measures(self._step, state):
            self._measure_layers()
        if self._evaluates(state):
            self._evaluate_and_decide(args, state, control, kwargs["model"])
        self._predict(state, kwargs["model"], epoch_ends=_epoch_ends(state))
        return control

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Epochs that end where the trainer could not foresee it are evaluated here."""
        if self._failure is not None:
            control.should_save = False
        elif self._step and self.fixed_eval is not None and self._evaluated != self._step:
            self._evaluate_and_decide(args, state, control, kwargs["model"])
        if self._failure is None:
            self._predict(state, kwargs["model"], epoch_ends=True)
        return control

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Score the checkpoint that the trainer just wrote."""
        path = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self._best == self._step and args.metric_for_best_model is None:
            # What the trainer knows as its best outlives `save_total_limit`. Told on every process,
            # for those that know of a best wait for each other at the next save.
            state.best_model_checkpoint, state.best_global_step = str(path), self._step
        if self.recorder is None or not path.is_dir():
            return
        if self._layers is not None:
            try:
                self._layers.save(path)
            except OSError as error:
                self.recorder.write_failed(self._step, f"{path}: where layers began cannot be written", error)
        self.recorder.adopt(self._step, path, epoch=state.epoch, provenance=self._provenance)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the run."""
        if self.recorder is not None:
            how, reason = self._outcome(state)
            self.recorder.end(how, step=self._step, reason=reason)
            logger.info("{} at step {}: {}", how.replace("_", " "), self._step, reason)
        self._close()

    def state(self) -> dict[str, Any]:
        """What the trainer puts into trainer_state.json of every checkpoint."""
        settings = {name: getattr(self, name) for name in SETTINGS}
        settings = {name: str(v) if isinstance(v, Path) else v for name, v in settings.items()}
        recorded = {} if self.recorder is None else self.recorder.state_dict(self._step)
        return {"args": settings, "attributes": {"stored": recorded}}

    # -- beginning -------------------------------------------------------------------

    def _load_fixed_eval(self, args: Any, model: Any, processing_class: Any) -> dict[str, Any]:
        """Encode the held-out chats; what describes them. Raises DataError, ModelError."""
        if self.fixed_eval is None:
            return {}
        self._eval_set, described = load_fixed_eval(
            self.fixed_eval,
            processing_class,
            max_samples=self.max_samples,
            max_seq_length=self.max_seq_length or max_length(args, model),
            train_on=self.train_on,
            seed=int(args.seed),
            patterns=self._patterns,
        )
        self._tokenizer = getattr(processing_class, "tokenizer", processing_class)
        self._predictions = Predictions(
            self._eval_set, self._tokenizer, self._predictions_config, seed=int(args.seed)
        )
        return described

    def _open_folder(
        self, args: Any, state: Any, model: Any, data: dict[str, Any], opened: ExitStack
    ) -> RunFolder:
        """Lock and describe the run folder. Raises RunError where it cannot be written or continued."""
        path = (self.out or Path(args.output_dir) / "fettle").absolute()
        if path in _held:
            _held.pop(path).close()
        name = str(getattr(getattr(model, "config", None), "name_or_path", "") or type(model).__name__)
        config = config_yaml(self.state()["args"], args, name)
        described = {
            **metadata(args, model, name, data),
            "patterns": {"length_bins": self._patterns.length_bins},
        }
        if RunFolder(path).metadata_path.is_file():
            folder = RunFolder.open(path)
            before = folder.read_metadata().get("data", {}).get("fixed_eval", {})
            if state.global_step and before and data and before["fingerprint"] != data["fingerprint"]:
                raise RunError(
                    f"{path}: {data['path']} is not the file this run was started with. "
                    "Give FettleCallback(out=...) another folder."
                )
            opened.enter_context(folder.lock())
            replace_file(folder.config_path, config.encode())
            folder.write_metadata({**folder.read_metadata(), **described})
        else:
            folder = RunFolder.create(path, config_yaml=config, metadata=described)
            opened.enter_context(folder.lock())
        self._provenance = {"model": name, "fixed_eval": data.get("fingerprint")}
        return folder

    def _start(
        self, folder: RunFolder, args: Any, state: Any, stored: dict[str, Any] | None, opened: ExitStack
    ) -> None:
        stream = folder.log_path.open("a", encoding="utf-8", errors="replace")
        sink = logger.add(FoldingSink(stream), level="DEBUG", format=FILE_FORMAT, filter="fettle")
        opened.callback(logger.remove, sink)
        begun = folder.metrics_path.is_file() and folder.metrics_path.stat().st_size > 0
        stopping = EarlyStopping(
            self.early_stopping_patience, self.early_stopping_threshold, self.early_stopping_relative
        )
        self.recorder = AdoptingRecorder(
            folder,
            early_stopping=stopping,
            total_steps=int(state.max_steps),
            length_bins=self._patterns.length_bins,
            alerts=self._thresholds,
            notifier=Notifier(self._notify),
        )
        step = int(state.global_step)
        if stored:
            self.recorder.load_state_dict(stored)
        elif step:
            logger.warning("the checkpoint of step {} holds no counters of fettle: they start anew", step)
        if step:
            resumed = Path(args.output_dir) / f"checkpoint-{step}"
            self.recorder.last_checkpoint = resumed if resumed.is_dir() else None
        elif begun:
            logger.warning(
                "{}: training starts again from step 0; its earlier rows no longer count", folder.path
            )
        if step or begun:
            self.recorder.resume(step)
        self._peak_rate = float(args.learning_rate)
        self.recorder.start(step=step, epochs=state.num_train_epochs, learning_rate=self._peak_rate)

    # -- a step ------------------------------------------------------------------------

    def _broken(self) -> bool:
        """Whether loss or gradient of this step is not a number. Under a loss scaler, an overflow
        of the gradient is part of the plan."""
        measured = self._measured
        # Without a label token it is 0/0, which matters only where the gradient shows it.
        loss = bool(measured.completion_tokens) and not isfinite(measured.loss_sum or 0.0)
        gradient = self._grad_norm is not None and not isfinite(self._grad_norm)
        return loss or (gradient and not self._scaled)

    def _record(self, state: Any) -> None:
        if self.recorder is None:
            return
        measured, seconds = self._measured, time.perf_counter() - self._began
        epoch = None if state.epoch is None else float(state.epoch)
        if measured.loss_sum is None or not measured.completion_tokens:
            self.recorder.unmeasured_step(
                self._step,
                epoch=epoch,
                tokens=measured.tokens,
                # Without labels there is nothing to count, which is not the same as none.
                completion_tokens=None if measured.loss_sum is None else measured.completion_tokens,
                learning_rate=self._learning_rate,
                grad_norm=self._grad_norm,
                step_time=seconds,
            )
            return
        self._compare_labels(measured)
        self.recorder.step(
            self._step,
            loss_sum=measured.loss_sum,
            completion_tokens=measured.completion_tokens,
            tokens=measured.tokens,
            learning_rate=self._learning_rate,
            grad_norm=self._grad_norm,
            epoch=epoch,
            seconds=seconds,
            skipped=self._scaled and self._grad_norm is not None and not isfinite(self._grad_norm),
        )

    def _compare_labels(self, measured: MeasuredStep) -> None:
        """A trainer that learns prompts too has another loss than completions have: no gap between them."""
        recorder, eval_set = self.recorder, self._eval_set
        if recorder is None or eval_set is None or recorder.incomparable_because is not None:
            return
        share = completion_share(eval_set)
        if measured.completion_tokens >= measured.predictable and share < 0.95:
            recorder.other_tokens(self._step, share)

    def _fail(self) -> None:
        self._failure = f"Loss or gradient is not a number at step {self._step}"
        if self.recorder is not None:
            self._failure = self.recorder.not_a_number(self._failure, self._peak_rate)

    # -- layers --------------------------------------------------------------------------

    def _watch_layers(self, args: Any, model: Any) -> None:
        """Remember where the weights began. A trainer that resumes has loaded the later ones already."""
        if self.layer_interval_steps is None:
            return
        self._layers = LayerMovement(model)
        resumed = Path(args.output_dir) / f"checkpoint-{self._step}"
        if self._step and not self._layers.restore(resumed, self._step):
            logger.warning("{} does not say where the weights began: layers move from here on", resumed)

    def _measures(self, step: int, state: Any) -> bool:
        interval = self.layer_interval_steps
        return interval is not None and (step % interval == 0 or step >= state.max_steps)

    def _measure_layers(self) -> None:
        activity = None if self._layers is None else self._layers.activity(self._step)
        if activity is not None and self.recorder is not None:
            self.recorder.layers(activity)

    # -- evaluate, decide ------------------------------------------------------------------

    def _evaluates(self, state: Any) -> bool:
        if self.fixed_eval is None:
            return False
        return self._step % self._interval == 0 or _epoch_ends(state) or self._step >= state.max_steps

    def _evaluate_and_decide(self, args: Any, state: Any, control: Any, model: Any) -> None:
        judgement = self._evaluate(state, model)
        save, stop = agreed(
            (judgement is not None and judgement.new_best, judgement is not None and judgement.should_stop),
            args,
        )
        if save:
            self._best = self._step
            control.should_save = control.should_save or self.keep_best
        if stop and self._step < state.max_steps:
            self._stopping = control.should_training_stop = True

    def _evaluate(self, state: Any, model: Any) -> Judgement | None:
        """Every process scores its share of the held-out chats; the first one records."""
        self._evaluated = self._step
        if self._eval_set is None:
            return None
        began = time.perf_counter()
        scores = shared_score(model, self._eval_set.sequences, batch_tokens=self.batch_tokens)
        if self.recorder is None:
            return None
        samples = sample_results(scores, self._eval_set.sample_ids, self._eval_set.patterns)
        try:
            judgement = self.recorder.evaluation(
                self._step, samples, epoch=state.epoch, seconds=time.perf_counter() - began
            )
        except OSError as error:
            self.recorder.write_failed(self._step, "The fixed eval cannot be kept", error)
            return None
        logger.info(
            "fixed eval at step {}: EM {:.1%}  CE {:.4f}{}",
            self._step,
            judgement.fields["exact_match"],
            judgement.fields["cross_entropy"],
            "  (best so far)" if judgement.new_best else "",
        )
        return judgement

    def _predict(self, state: Any, model: Any, *, epoch_ends: bool) -> None:
        if self.recorder is None or self._predictions is None or self._predicted == self._step:
            return
        last = self._stopping or self._step >= state.max_steps
        evaluated = self._evaluated == self._step
        if self._predictions.due(self._step, evaluated=evaluated, epoch_ends=epoch_ends, last=last):
            self._predicted = self._step
            rows = self._predictions.rows(partial(generate, model, self._tokenizer))
            self.recorder.predictions(self._step, rows, epoch=state.epoch)

    # -- ending ------------------------------------------------------------------------------

    def _outcome(self, state: Any) -> tuple[State, str]:
        if self._failure is not None:
            return "failed", self._failure
        if self._stopping and self.recorder is not None:
            return "early_stopped", self.recorder.early_stopping.reason or ""
        if self._step >= state.max_steps:
            return "completed", f"all {state.max_steps} steps are done"
        return "interrupted", f"the trainer stopped at step {self._step} of {state.max_steps}"

    def _close(self) -> None:
        self.recorder = self._layers = None
        for path in [path for path, held in _held.items() if held is self._open]:
            del _held[path]
        self._open.close()


def _epoch_ends(state: Any) -> bool:
    return state.epoch is not None and float(state.epoch).is_integer()


def _recorder_state(stored: Any) -> dict[str, Any] | None:
    """The recorder's counters out of what `FettleCallback.state` put into a checkpoint."""
    first: Any = cast("list[Any]", stored)[0] if isinstance(stored, list) else stored
    return first["attributes"]["stored"] or None
