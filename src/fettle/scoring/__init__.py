"""The teacher-forced engine: model and sequences in, per-token and per-sample results out."""

from fettle.metrics.normalise import Normaliser, normaliser
from fettle.scoring.engine import completion_loss, score
from fettle.scoring.generate import Continuation
from fettle.scoring.head import LMHead, locate_head
from fettle.scoring.loss import fused_cross_entropy
from fettle.scoring.noise import NoiseFloor, noise_floor
from fettle.scoring.sampling import Answer, generate, sample, sample_batches
from fettle.scoring.scores import Scores, concatenate
from fettle.scoring.text_match import TextMatches, text_exact_match

__all__ = [
    "Answer",
    "Continuation",
    "LMHead",
    "NoiseFloor",
    "Normaliser",
    "Scores",
    "TextMatches",
    "completion_loss",
    "concatenate",
    "fused_cross_entropy",
    "generate",
    "locate_head",
    "noise_floor",
    "normaliser",
    "sample",
    "sample_batches",
    "score",
    "text_exact_match",
]
