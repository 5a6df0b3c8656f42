"""fettle for any PyTorch Lightning trainer, as one callback."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from fettle.errors import MissingExtraError, ModelError
from fettle.train.adopting_recorder import AdoptingRecorder
from fettle.train.control import Wanted
from fettle.train.processes import Processes
from fettle.train.provenance import model_name, run_metadata
from fettle.train.trainer_arguments import EVAL_INTERVAL_STEPS, max_length, plain
from fettle.train.training import Training
from fettle.train.watch import Watch
from fettle.train.watch_settings import WatchSettings

NAMES = ("lightning.pytorch", "pytorch_lightning")


def _callback_class() -> Any:
    """Of the package that is in use, for both may be installed."""
    for name in sorted(NAMES, key=lambda name: name not in sys.modules):
        try:
            return import_module(name).Callback
        except ImportError:
            continue
    raise MissingExtraError("LightningCallback needs lightning. Install it with: pip install lightning")


if TYPE_CHECKING:
    from lightning.pytorch import Callback
else:
    Callback = _callback_class()


class LightningCallback(WatchSettings, Callback):
    """Records, evaluates, stops early and scores checkpoints of a Lightning trainer.

    `Trainer(callbacks=[LightningCallback("valid.jsonl")])` watches the causal LM of Transformers
    (or PEFT) that the LightningModule holds: each optimizer step goes into a run folder with the
    loss per label token, held-out chats are scored every `eval_interval_steps` (by default 250) and
    at the end of each epoch, and training stops by early stopping or where a loss is not a number.
    The module's `tokenizer` attribute encodes the held-out chats.

    A new best is saved into the run folder as Transformers has it. Each .ckpt file of Lightning
    carries its score under the key "fettle", and the counters that a resume goes on with. The run
    folder is by default `fettle` in the trainer's `default_root_dir`.
    """

    _watch: Watch | None = None
    _restored: dict[str, Any] | None = None
    _epoch: float | None = None
    _began = False

    @property
    def recorder(self) -> AdoptingRecorder | None:
        """Writes the run folder while training runs; None before it, and on other processes."""
        return None if self._watch is None else self._watch.recorder

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Open the run folder, encode the held-out chats, hook into the model."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        _refuse(trainer)
        model, step = _language_model(pl_module), int(trainer.global_step)
        name, seed = model_name(model), int(os.environ.get("PL_GLOBAL_SEED") or 42)
        root, total = Path(trainer.default_root_dir), trainer.estimated_stepping_batches
        folder = root / "fettle"
        training = Training(
            model=model,
            name=name,
            folder=folder,
            config_yaml=_config_yaml(self.settings(), trainer, pl_module, name),
            metadata=run_metadata(
                "lightning",
                model=model,
                name=name,
                device=str(trainer.strategy.root_device),
                processes=trainer.world_size,
                output_dir=str(root.absolute()),
                seed=seed,
            ),
            learning_rate=float(trainer.optimizers[0].param_groups[0]["lr"]),
            step=step,
            total_steps=None if total == float("inf") else int(total),
            epochs=trainer.max_epochs,
            held_out=self._held_out(
                getattr(pl_module, "tokenizer", None) or getattr(trainer.datamodule, "tokenizer", None),
                max_length(None, model),
                seed,
                "Set self.tokenizer in the LightningModule.",
            ),
            eval_interval_steps=self.eval_interval_steps or EVAL_INTERVAL_STEPS,
            seed=seed,
            # Lightning shows the gradients before it clips them.
            clipped_at=0.0,
            loss_scaler=getattr(trainer.precision_plugin, "scaler", None) is not None,
            counters=self._restored if step else None,
            checkpoint=(self.out or folder) / "checkpoints" / f"checkpoint-{step}" if step else None,
            processes=Processes(trainer.global_rank, trainer.world_size, trainer.strategy.root_device),
        )
        self._watch, self._began = Watch(self, training), False

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """The first micro-batch of a step begins it."""
        if not self._began:
            self._watching.step_begins()
            self._began = True

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Measure the gradient; one that is not a number never reaches the weights."""
        self._watching.gradients_ready(optimizer)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Once the optimizer has stepped: record; evaluate, keep the best, stop."""
        watch = self._watching
        if trainer.global_step == watch.step:
            return  # Gradients still accumulate.
        self._began = False
        self._epoch = _epoch(trainer, batch_idx)
        if not watch.step_ends(int(trainer.global_step), epoch=self._epoch):
            trainer.should_stop = True
            return
        self._evaluate(trainer, epoch_ends=trainer.is_last_batch)
        self._heed(trainer)

    def _heed(self, trainer: Any) -> None:
        """Save, stop and pause as people ask."""
        watch = self._watching
        wanted = watch.obey()
        while wanted != Wanted():
            if wanted.save or wanted.stop:
                watch.save(epoch=self._epoch)
                folder = self.out or Path(trainer.default_root_dir) / "fettle"
                # Lightning goes on from its own file: trainer.fit(..., ckpt_path=...).
                trainer.save_checkpoint(folder / "checkpoints" / f"step-{watch.step}.ckpt")
            if wanted.stop:
                trainer.should_stop = True
                return
            wanted = watch.hold(stopping=lambda: trainer.received_sigterm)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Epochs that end where the trainer could not foresee it are evaluated here."""
        if self._watching.failure is None and self._watching.step:
            self._evaluate(trainer, epoch_ends=True)

    def _evaluate(self, trainer: Any, *, epoch_ends: bool) -> None:
        watch = self._watching
        if watch.evaluates(epoch_ends=epoch_ends):
            best, stop = watch.evaluate(epoch=self._epoch)
            if best and self.keep_best:
                watch.save(epoch=self._epoch)
            if stop:
                trainer.should_stop = True
        watch.predict(epoch=self._epoch, epoch_ends=epoch_ends)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Score the checkpoint that Lightning is about to write."""
        if self.recorder is not None:
            watch = self._watching
            provenance = {"epoch": self._epoch, **watch.provenance}
            checkpoint["fettle"] = self.recorder.description(watch.step, **provenance)

    def state_dict(self) -> dict[str, Any]:
        """Counters for Lightning's checkpoint."""
        return {} if self._watch is None else self._watch.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Counters out of Lightning's checkpoint."""
        self._restored = state_dict or None

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Close the run, after Lightning wrote its last checkpoint."""
        if self._watch is not None:
            self._watch.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """The run failed, or somebody interrupted it."""
        if self._watch is not None:
            self._watch.end(exception)

    @property
    def _watching(self) -> Watch:
        assert self._watch is not None, "training has not begun"
        return self._watch


def _language_model(pl_module: Any) -> Any:
    """The outermost module that computes the loss of a causal LM. Raises ModelError where none is."""
    for module in pl_module.modules():
        if module is not pl_module and hasattr(module, "get_output_embeddings") and hasattr(module, "config"):
            return module
    raise ModelError(
        f"LightningCallback found no causal LM of Transformers in {type(pl_module).__name__}. "
        "Let it be an attribute of the LightningModule, made in __init__."
    )


def _refuse(trainer: Any) -> None:
    """Raises ModelError for training that cannot be watched."""
    strategy = type(trainer.strategy).__name__
    if strategy in ("FSDPStrategy", "ModelParallelStrategy", "DeepSpeedStrategy"):
        raise ModelError(f"LightningCallback cannot evaluate a sharded model. Train without {strategy}.")
    if len(trainer.optimizers) != 1:
        raise ModelError(
            f"LightningCallback watches one optimizer; this module has {len(trainer.optimizers)}."
        )


def _epoch(trainer: Any, batch_idx: int) -> float | None:
    batches = trainer.num_training_batches
    return None if batches == float("inf") else trainer.current_epoch + (batch_idx + 1) / batches


def _config_yaml(settings: dict[str, Any], trainer: Any, pl_module: Any, name: str) -> str:
    told = ("max_epochs", "max_steps", "accumulate_grad_batches", "gradient_clip_val", "precision")
    resolved = {
        "model": name,
        "backend": "lightning",
        "fettle": settings,
        "trainer": {key: plain(getattr(trainer, key)) for key in told},
        "hyperparameters": plain(dict(pl_module.hparams)),
    }
    return yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True)
