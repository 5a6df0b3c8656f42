"""What can be asked of fettle in a training loop that is not its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from fettle.config import AlertsConfig, NotifyConfig, PatternsConfig, PredictionsConfig, check_section
from fettle.decide.early_stop import EarlyStopping
from fettle.errors import ConfigError, ModelError
from fettle.train.held_out import HeldOut
from fettle.train.lens_reader import LensReader

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
    "lenses",
    "alerts",
    "notify",
)


class WatchSettings:
    """The settings that every callback has in common, checked at once."""

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
        lenses: LensReader | None = None,
        alerts: Mapping[str, Any] | None = None,
        notify: Mapping[str, Any] | None = None,
    ) -> None:
        """See the fields of a fettle configuration of the same names.

        `out` is the run folder, by default `fettle` in the trainer's output folder.
        `eval_interval_steps` is by default the trainer's own interval of evaluation, else of
        saving, else 250. `max_seq_length` is by default the trainer's `max_length`, else the
        context of the model. `keep_best` saves a checkpoint at every new best. Every
        `layer_interval_steps` it is measured how far each layer moved; None: never. `lenses` reads concepts
        off the model while it is trained: `LiveDrift("pack", every_steps=50)`. `patterns` and
        `predictions`, `alerts` and `notify` hold keys of the sections of those names, by default
        their defaults. Raises ConfigError for wrong ones.
        """
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
        self.lenses = lenses
        self.patterns = dict(patterns or {})
        self.predictions = dict(predictions or {})
        self.alerts = dict(alerts or {})
        self.notify = dict(notify or {})
        name = type(self).__name__
        if isinstance(lenses, Mapping):
            raise ConfigError(
                f"{name}(lenses=...): must be a LiveDrift. A trainer that restores its callbacks from a "
                "checkpoint cannot make one: leave restore_callback_states_from_checkpoint out"
            )
        self.alerts_config = check_section(AlertsConfig, alerts, f"{name}(alerts=...)")
        self.notify_config = check_section(NotifyConfig, notify, f"{name}(notify=...)")
        self.patterns_config = check_section(PatternsConfig, patterns, f"{name}(patterns=...)")
        self.predictions_config = check_section(PredictionsConfig, predictions, f"{name}(predictions=...)")

    def settings(self) -> dict[str, Any]:
        """Arguments that make the same again, as JSON and YAML have them."""
        values = {name: getattr(self, name) for name in SETTINGS}
        values["lenses"] = None if self.lenses is None else self.lenses.settings()
        return {name: str(v) if isinstance(v, Path) else v for name, v in values.items()}

    def _held_out(self, tokenizer: Any, longest: int, seed: int, cure: str) -> HeldOut | None:
        """The held-out chats, none longer than asked for, else `longest` tokens; None without a file of them.

        Raises ModelError, with the `cure`, where there is no tokenizer.
        """
        if self.fixed_eval is None:
            return None
        if tokenizer is None:
            raise ModelError(f"{type(self).__name__} needs the tokenizer. {cure}")
        return HeldOut(
            self.fixed_eval,
            tokenizer,
            max_samples=self.max_samples,
            max_seq_length=self.max_seq_length or longest,
            train_on=self.train_on,
            seed=seed,
            patterns=self.patterns_config,
        )

    def early_stopping(self) -> EarlyStopping:
        """A fresh counter of evals without improvement."""
        return EarlyStopping(
            self.early_stopping_patience, self.early_stopping_threshold, self.early_stopping_relative
        )
