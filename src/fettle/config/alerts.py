"""The `alerts` section: when a person is told that something is wrong. null turns an alert off."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from fettle.config.strict import Strict, disagreement


class AlertsConfig(Strict):
    nan_loss: int | None = Field(default=1, ge=1)
    """Steps in a row whose loss or gradient is not a number."""
    exploding_gradients: float | None = Field(default=100.0, gt=0)
    """Norm of the gradient, before clipping, above which it explodes."""
    vanishing_gradients: float | None = Field(default=1e-7, gt=0)
    """Norm of the gradient, above zero, below which nothing is learned."""
    loss_spike: float | None = Field(default=2.0, gt=1)
    """Loss, as a multiple of its mean over the last loss_spike_steps."""
    loss_spike_steps: int = Field(default=10, ge=2)
    """Steps that a spike is measured against."""
    loss_variance: float | None = Field(default=0.25, gt=0)
    """Variance of the loss, as a share of its squared mean, over loss_variance_steps."""
    loss_variance_steps: int = Field(default=50, ge=2)
    """Steps over which the variance is taken."""
    plateau: float | None = Field(default=0.01, gt=0, lt=1)
    """Improvement from the older to the newer half of plateau_steps, as a share, below which loss is flat."""
    plateau_steps: int = Field(default=50, ge=4)
    """Steps whose halves are compared; an odd one is left out."""
    high_learning_rate: float | None = Field(default=1e-2, gt=0)
    """Learning rate above which training rarely holds."""
    low_learning_rate: float | None = Field(default=1e-6, gt=0)
    """Learning rate below which hardly anything is learned."""
    low_learning_rate_after_steps: int = Field(default=1000, ge=0)
    """Steps before which a low learning rate is taken for a warm-up."""
    planned_decay: float = Field(default=0.25, ge=0, le=1)
    """Last share of the planned steps in which a falling learning rate is part of the plan."""
    poor_calibration: float | None = Field(default=0.3, gt=0, lt=1)
    """Expected calibration error above which confidence says little."""
    calibration_drift: float | None = Field(default=1.2, ge=1)
    """Expected calibration error, as a multiple of the best so far; the rise must also exceed its noise."""
    em_plateau: float | None = Field(default=0.005, gt=0, lt=1)
    """Improvement of exact match over 5 evals, as a share of samples, below which it is flat."""
    evaluation_regression: float | None = Field(default=0.005, ge=0.005, lt=1)
    """What a watched evaluation lost, as a share of exact matches or in nats per token; also significant."""
    overfitting: float | None = Field(default=0.005, ge=0)
    """Rise of held-out cross-entropy from its best, in nats per token, while train loss falls."""
    val_gap: float | None = Field(default=0.3, gt=0)
    """Held-out cross-entropy above train loss, in nats per token; only where the two are comparable."""
    not_comparable: float | None = Field(default=3.0, ge=3)
    """Train loss as a steady multiple of held-out loss that only another way of counting explains."""
    leakage: float | None = Field(default=0.0, ge=0, lt=1)
    """Share of held-out examples that also stand in the training data."""
    dead_lora_layers: float | None = Field(default=1e-8, ge=0)
    """Size of a layer's LoRA update, as a share of its weights, up to which the layer has not moved."""
    no_label_tokens: int | None = Field(default=1, ge=1)
    """Steps in a row without a token that carries loss."""
    loss_not_measured: int | None = Field(default=1, ge=1)
    """Steps in a row whose loss could not be measured."""
    throughput_drop: float | None = Field(default=0.6, gt=0, lt=1)
    """Smoothed tokens per second, as a share of the baseline of this start."""
    throughput_baseline_steps: int = Field(default=20, ge=2)
    """Steps after a start whose second half is the baseline."""
    low_vram_utilization: float | None = Field(default=0.6, gt=0, le=1)
    """Share of the GPU's memory in use below which a larger batch would fit."""
    low_vram_warning: float = Field(default=0.5, gt=0, le=1)
    """Share of the GPU's memory in use below which low_vram_utilization is a warning."""
    low_vram_steps: int = Field(default=15, ge=1)
    """Steps in a row that memory must stay unused."""
    stalled_run: float | None = Field(default=20.0, gt=1)
    """Time without an event, as a multiple of the usual time of a step."""
    stalled_run_seconds: float = Field(default=300.0, ge=0)
    """Time without an event that is never a stall."""
    evaluation_overhead: float | None = Field(default=0.1, gt=0, lt=1)
    """Share of the run's time that goes into fixed evals."""
    monitor_overhead: float | None = Field(default=0.05, gt=0, lt=1)
    """Share of step time that goes into recording."""
    overhead_after_seconds: float = Field(default=60.0, ge=0)
    """Run time before which no overhead is judged."""
    checkpoint_without_evaluation: int | None = Field(default=1, ge=1)
    """Checkpoints in a row that no fixed eval belongs to."""
    write_failed: int | None = Field(default=1, ge=1)
    """Files in a row that could not be written."""
    disk_nearly_full: float | None = Field(default=2e9, gt=0)
    """Free bytes on the disk of the run; twice the last checkpoint where that is more."""
    hysteresis: float = Field(default=0.1, ge=0, lt=1)
    """Share of the threshold by which a number must be back before its alert is resolved."""
    cooldown_steps: int = Field(default=50, ge=0)
    """Steps a resolved alert stays quiet, twice as long each time it comes back. nan_loss never waits."""

    @model_validator(mode="after")
    def _keys_agree(self) -> Self:
        problems: dict[str, str] = {}
        if self.low_vram_utilization is not None and self.low_vram_warning > self.low_vram_utilization:
            problems["low_vram_warning"] = "must not be above low_vram_utilization"
        if problems:
            raise disagreement(problems)
        return self
