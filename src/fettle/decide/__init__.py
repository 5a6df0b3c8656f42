"""Decisions: pure functions over rows. Knows nothing of where the rows came from."""

from fettle.decide.actions import Action
from fettle.decide.choice import Choice, choose_checkpoint
from fettle.decide.comparability import Comparability, loss_comparability, train_loss_at
from fettle.decide.early_stop import EarlyStopDecision, EarlyStopping
from fettle.decide.evidence import Evidence
from fettle.decide.ranking import RankedCheckpoint, rank_checkpoints, score_evals
from fettle.decide.retention import Retention, retain
from fettle.decide.score import SCORE_VERSION, CheckpointScore, checkpoint_score, compare_checkpoints
from fettle.decide.trend import Trend, trend
from fettle.decide.verdict import VERDICT_SCHEMA_VERSION, Verdict, verdict

__all__ = [
    "SCORE_VERSION",
    "VERDICT_SCHEMA_VERSION",
    "Action",
    "CheckpointScore",
    "Choice",
    "Comparability",
    "EarlyStopDecision",
    "EarlyStopping",
    "Evidence",
    "RankedCheckpoint",
    "Retention",
    "Trend",
    "Verdict",
    "checkpoint_score",
    "choose_checkpoint",
    "compare_checkpoints",
    "loss_comparability",
    "rank_checkpoints",
    "retain",
    "score_evals",
    "train_loss_at",
    "trend",
    "verdict",
]
