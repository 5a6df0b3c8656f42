"""Arithmetic: numbers in, numbers out. Knows no files, and imports no torch."""

from fettle.metrics.calibration import (
    brier_score,
    calibration_bins,
    expected_calibration_error,
    expected_calibration_error_from_bins,
)
from fettle.metrics.cross_entropy import perplexity, token_cross_entropy
from fettle.metrics.intervals import Estimate, wilson_interval
from fettle.metrics.layers import ModuleNorms, group_movements, layer_activity_summary, layer_rows
from fettle.metrics.module_names import layer_and_group
from fettle.metrics.streaming import StreamingCrossEntropy, ema
from fettle.metrics.summary import summarise_samples
from fettle.metrics.throughput import Rates, Throughput

__all__ = [
    "Estimate",
    "ModuleNorms",
    "Rates",
    "StreamingCrossEntropy",
    "Throughput",
    "brier_score",
    "calibration_bins",
    "ema",
    "expected_calibration_error",
    "expected_calibration_error_from_bins",
    "group_movements",
    "layer_activity_summary",
    "layer_and_group",
    "layer_rows",
    "perplexity",
    "summarise_samples",
    "token_cross_entropy",
    "wilson_interval",
]
