"""The teacher-forced engine: model and sequences in, per-token and per-sample results out."""

from fettle.scoring.engine import completion_loss, noise_floor, score
from fettle.scoring.head import LMHead, locate_head
from fettle.scoring.loss import fused_cross_entropy
from fettle.scoring.scores import Scores

__all__ = [
    "LMHead",
    "Scores",
    "completion_loss",
    "fused_cross_entropy",
    "locate_head",
    "noise_floor",
    "score",
]
