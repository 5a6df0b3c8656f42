"""Arithmetic: numbers in, numbers out. Knows no files, and imports no torch."""

from fettle.metrics.auroc import area_under_curve, auroc
from fettle.metrics.binary import BinaryScores, best_threshold, binary_scores
from fettle.metrics.calibration import (
    brier_score,
    calibration_bins,
    expected_calibration_error,
    expected_calibration_error_from_bins,
)
from fettle.metrics.cross_entropy import perplexity, token_cross_entropy
from fettle.metrics.discriminability import Discriminability, Grade, discriminability, rank_v1
from fettle.metrics.intervals import Estimate, mean_estimate, wilson_interval
from fettle.metrics.layers import ModuleNorms, group_movements, layer_activity_summary, layer_rows
from fettle.metrics.module_names import layer_and_group
from fettle.metrics.normalise import Normaliser, normaliser
from fettle.metrics.number_text import Number, last_number
from fettle.metrics.pass_at_k import (
    entropy_statistics,
    length_statistics,
    mean_pass_at_k,
    mean_share,
    pass_at_k,
    pass_rate,
    surprisal_statistics,
)
from fettle.metrics.patterns import PatternCell, PatternMatrix, count_patterns, pattern_matrix
from fettle.metrics.platt import Platt, platt_scaling
from fettle.metrics.streaming import StreamingCrossEntropy, ema
from fettle.metrics.summary import summarise_patterns, summarise_samples
from fettle.metrics.text import character_error_rate, length_ratio, text_match, word_overlap
from fettle.metrics.throughput import Rates, Throughput

__all__ = [
    "BinaryScores",
    "Discriminability",
    "Estimate",
    "Grade",
    "ModuleNorms",
    "Normaliser",
    "Number",
    "PatternCell",
    "PatternMatrix",
    "Platt",
    "Rates",
    "StreamingCrossEntropy",
    "Throughput",
    "area_under_curve",
    "auroc",
    "best_threshold",
    "binary_scores",
    "brier_score",
    "calibration_bins",
    "character_error_rate",
    "count_patterns",
    "discriminability",
    "ema",
    "entropy_statistics",
    "expected_calibration_error",
    "expected_calibration_error_from_bins",
    "group_movements",
    "last_number",
    "layer_activity_summary",
    "layer_and_group",
    "layer_rows",
    "length_ratio",
    "length_statistics",
    "mean_estimate",
    "mean_pass_at_k",
    "mean_share",
    "normaliser",
    "pass_at_k",
    "pass_rate",
    "pattern_matrix",
    "perplexity",
    "platt_scaling",
    "rank_v1",
    "summarise_patterns",
    "summarise_samples",
    "surprisal_statistics",
    "text_match",
    "token_cross_entropy",
    "wilson_interval",
    "word_overlap",
]
