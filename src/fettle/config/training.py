"""The `training` section: the loop, its schedule, and when it logs, evaluates, saves and stops."""

from __future__ import annotations

from typing import Any, Literal, Self, cast

from pydantic import Field, model_validator

from fettle.config.strict import Strict, disagreement

Schedule = Literal[
    "constant",
    "constant_with_warmup",
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "inverse_sqrt",
]
"""Schedules of Transformers that the step alone determines, without settings of their own."""


class TrainingConfig(Strict):
    epochs: int = Field(default=2, ge=1)
    """Passes over the training data."""
    max_steps: int | None = Field(default=None, ge=1)
    """Ends training after this many optimizer steps, even within an epoch. null: epochs alone decide."""
    batch_size: int = Field(default=4, ge=1)
    """Examples of one forward and backward pass."""
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    """Passes of one optimizer step. Loss is per completion token of the whole step, whatever the split."""
    learning_rate: float = Field(default=2.0e-4, gt=0, le=1)
    """Peak of the schedule."""
    lr_schedule: Schedule = "cosine"
    """Name of the Transformers scheduler."""
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    """Share of all steps over which the learning rate rises from 0. A constant schedule has none."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay of AdamW."""
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    """Gradients above this norm are scaled down to it. null: never."""
    gradient_checkpointing: bool = False
    """Recomputes activations in the backward pass: less memory, about a third more time."""
    max_seq_length: int = Field(default=2048, ge=2)
    """Tokens of an example; data.too_long says what becomes of longer ones."""
    length_buckets: bool = True
    """Batches hold examples of like length: less padding. Off, they are random, and learn better where
    length tells the kind of example."""
    log_interval_steps: int = Field(default=10, ge=1)
    """Steps between two lines of the log; metrics.jsonl holds every step."""
    layer_interval_steps: int | None = Field(default=250, ge=1)
    """Steps between two measurements of how far each layer moved. null: never."""
    checkpoint_interval_steps: int = Field(default=250, ge=1)
    """Steps between two checkpoints."""
    eval_interval_steps: int = Field(default=250, ge=1)
    """Steps between two evaluations on the held-out chats."""
    eval_at_epoch_end: bool = True
    """Evaluates at the end of each epoch too, once where both coincide."""
    eval_batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens of one evaluation batch. null: chosen from the model."""
    resume_from_checkpoint: bool = True
    """Goes on from the newest whole checkpoint of the same configuration."""
    early_stopping_patience: int = Field(default=5, ge=0)
    """Evaluations without improvement after which training stops. 0: never."""
    early_stopping_threshold: float | None = Field(default=0.01, ge=0)
    """Improvement that counts, in nats per token. null where early_stopping_relative is given."""
    early_stopping_relative: float | None = Field(default=None, ge=0, lt=1)
    """Improvement that counts, as a share of the best loss so far. null: early_stopping_threshold holds."""
    seed: int = Field(default=42, ge=0, lt=2**32)
    """Of weights, dropout, batches and the choice of held-out chats."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_that_follow(cls, values: Any) -> Any:
        """Defaults that would contradict what is given give way to it."""
        if not isinstance(values, dict):
            return values
        given = dict(cast("dict[str, Any]", values))
        if given.get("lr_schedule") == "constant":
            given.setdefault("warmup_ratio", 0.0)
        if given.get("early_stopping_relative") is not None:
            given.setdefault("early_stopping_threshold", None)
        return given

    @model_validator(mode="after")
    def _keys_agree(self) -> Self:
        problems: dict[str, str] = {}
        if self.lr_schedule == "constant" and self.warmup_ratio > 0:
            problems["warmup_ratio"] = (
                "lr_schedule 'constant' has no warm-up: use constant_with_warmup, or warmup_ratio: 0"
            )
        absolute, relative = self.early_stopping_threshold, self.early_stopping_relative
        if absolute is not None and relative is not None:
            problems["early_stopping_relative"] = (
                "early_stopping_threshold and early_stopping_relative exclude each other: give one of them"
            )
        if absolute is None and relative is None and self.early_stopping_patience > 0:
            problems["early_stopping_threshold"] = (
                "early stopping needs early_stopping_threshold or early_stopping_relative, or patience 0"
            )
        if problems:
            raise disagreement(problems)
        return self
