"""Every kind of alert: what fires it, what clears it, what to do."""

from __future__ import annotations

from dataclasses import dataclass

from fettle.decide.alerts.alert import Level
from fettle.decide.alerts.rule import Rule
from fettle.decide.alerts.rules_data import Leakage
from fettle.decide.alerts.rules_disk import CheckpointWithoutEvaluation, DiskNearlyFull, WriteFailed
from fettle.decide.alerts.rules_evaluation import (
    CalibrationDrift,
    EvaluationRegression,
    ExactMatchPlateau,
    PoorCalibration,
)
from fettle.decide.alerts.rules_gradient import (
    ExplodingGradients,
    HighLearningRate,
    LowLearningRate,
    VanishingGradients,
)
from fettle.decide.alerts.rules_held_out import NotComparable, OverfittingBegan, ValidationGap
from fettle.decide.alerts.rules_labels import LossNotMeasured, NoLabelTokens
from fettle.decide.alerts.rules_layers import DeadLoraLayers
from fettle.decide.alerts.rules_overhead import EvaluationOverhead, MonitorOverhead
from fettle.decide.alerts.rules_speed import LowVramUtilization, ThroughputDrop
from fettle.decide.alerts.rules_stalled import StalledRun
from fettle.decide.alerts.rules_train_loss import LossSpike, LossVariance, NanLoss, Plateau


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of alert in words, and the rule that finds it."""

    rule: type[Rule]
    fires: str
    clears: str
    action: str

    @property
    def category(self) -> str:
        """Its name, and the key of its threshold in the `alerts` section."""
        return self.rule.category

    @property
    def level(self) -> Level:
        """How serious it is when it fires."""
        return self.rule.level


CATALOGUE: tuple[Kind, ...] = (
    Kind(
        NanLoss,
        "loss or gradient norm is NaN or infinite",
        "a step with a finite loss",
        "stop; restart from the last good checkpoint with a tenth of the learning rate",
    ),
    Kind(
        ExplodingGradients,
        "the gradient norm before clipping is above the threshold",
        "a norm 10 % below it",
        "if it happens again, restart from the last good checkpoint with a tenth of the learning rate",
    ),
    Kind(
        NoLabelTokens,
        "no token of a step carries loss",
        "a step with such tokens",
        "check labels and maximal length",
    ),
    Kind(
        VanishingGradients,
        "the gradient norm is above zero and below the threshold",
        "a norm 10 % above it",
        "check which weights require gradients, and the dtype",
    ),
    Kind(
        LossSpike,
        "loss is above the threshold times its mean over the steps before; spikes do not count into it",
        "a loss 10 % below that",
        "look at the batch; if loss does not come back, restart with a tenth of the learning rate",
    ),
    Kind(
        Plateau,
        "the newer half of the last steps improved on the older half by less than the threshold",
        "an improvement 10 % above it",
        "judge by the fixed eval; if it is flat too, stop and use the best checkpoint",
    ),
    Kind(
        LossVariance,
        "the variance of loss is above the threshold times its squared mean",
        "a variance 10 % below that",
        "larger batches, or a look at odd examples",
    ),
    Kind(
        LossNotMeasured,
        "a step has no loss, and none that is NaN either",
        "a step with a loss",
        "judge by the fixed eval",
    ),
    Kind(
        HighLearningRate,
        "the learning rate in force is above the threshold",
        "a rate 10 % below it",
        "watch loss and gradient norm; lower the peak",
    ),
    Kind(
        LowLearningRate,
        "the learning rate in force is below the threshold, after the first steps, while it does not rise "
        "and outside the planned decay at the end",
        "a rate 10 % above it",
        "check the schedule",
    ),
    Kind(
        PoorCalibration,
        "the expected calibration error of a fixed eval is above the threshold",
        "an error 10 % below it",
        "do not rely on probabilities; train less or more slowly",
    ),
    Kind(
        CalibrationDrift,
        "the expected calibration error is above the threshold times the best so far, and further from it "
        "than resampling the samples explains",
        "an error 10 % below that",
        "halve the learning rate, or use a checkpoint near the best-calibrated step",
    ),
    Kind(
        ExactMatchPlateau,
        "exact match is flat, tested on the samples where the trainer logged that, and cross-entropy does "
        "not improve either; never at 0 %",
        "exact match that improves or regresses",
        "stop; use the best checkpoint",
    ),
    Kind(
        OverfittingBegan,
        "held-out cross-entropy rose from its best by more than the threshold and its noise, while train "
        "loss fell",
        "a cross-entropy that improves or is level again",
        "stop; use the best checkpoint",
    ),
    Kind(
        ValidationGap,
        "held-out cross-entropy is above train loss by more than the threshold, where both are per token",
        "a gap 10 % below it",
        "stop at the best fixed eval; fewer epochs, more data or a smaller rank",
    ),
    Kind(
        NotComparable,
        "train loss stays a steady multiple of held-out loss above the threshold, or the trainer says that "
        "its loss covers other tokens",
        "losses on one scale",
        "judge by the fixed eval only",
    ),
    Kind(
        Leakage,
        "more than this share of held-out examples stands in the training data, exactly or nearly",
        "a start whose check found none",
        "take them out of one of the sets and train again",
    ),
    Kind(
        DeadLoraLayers,
        "a layer has not moved by more than this share of its weights ",
        "a measurement in which every layer moved",
        "check gradients and target_modules",
    ),
    Kind(
        CheckpointWithoutEvaluation,
        "a checkpoint is saved at a step without a fixed eval",
        "a checkpoint with one",
        "evaluate where you save",
    ),
    Kind(
        ThroughputDrop,
        "smoothed tokens per second are below the threshold times the baseline of this start",
        "a speed 10 % above that",
        "see what else runs on the machine, and whether examples grew longer",
    ),
    Kind(
        StalledRun,
        "no event for the threshold times the usual step time, twice the slowest eval or checkpoint, and "
        "stalled_run_seconds, whichever is longest",
        "any event",
        "look at the process; the same command goes on from the last checkpoint",
    ),
    Kind(
        LowVramUtilization,
        "less than this share of the GPU's memory is in use for some steps; below low_vram_warning it is "
        "a warning",
        "a share 10 % above it",
        "larger batches, fewer accumulation steps",
    ),
    Kind(
        EvaluationRegression,
        "on a file that `fettle eval --watch` evaluates, a checkpoint has significantly lower exact match "
        "than the best before it, by more than this share, or higher cross-entropy, by so many nats per "
        "token, while exact match does not improve",
        "a checkpoint of which that is not so",
        "stop; use the best checkpoint before it",
    ),
    Kind(
        EvaluationOverhead,
        "fixed evals took more than this share of the time so far",
        "a share 10 % below it",
        "evaluate less often, or on fewer samples",
    ),
    Kind(
        MonitorOverhead,
        "recording takes more than this share of step time, smoothed",
        "a share 10 % below it",
        "a faster disk for the run folder",
    ),
    Kind(
        WriteFailed,
        "a file of the run could not be written",
        "a later checkpoint or fixed eval that could be",
        "make room on the disk",
    ),
    Kind(
        DiskNearlyFull,
        "fewer bytes than this, or than two checkpoints take, are free on the disk of the run",
        "10 % more than that",
        "move or delete old checkpoints, but not the best and not the newest",
    ),
)
