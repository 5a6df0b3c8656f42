"""The run folder. The only room that knows file names."""

from fettle.runs.checkpoints import (
    latest_checkpoint,
    list_checkpoints,
    pin_checkpoint,
    unpin_checkpoint,
    verify_checkpoint,
    write_checkpoint,
)
from fettle.runs.events import EventLog
from fettle.runs.folder import RunFolder, find_run
from fettle.runs.follow import LogFollower
from fettle.runs.logs import configure_logging
from fettle.runs.predictions import PredictionLog, PredictionReader
from fettle.runs.reader import RunReader
from fettle.runs.samples import load_samples, save_samples
from fettle.runs.trash import discard_checkpoints, discarded, empty_trash

__all__ = [
    "EventLog",
    "LogFollower",
    "PredictionLog",
    "PredictionReader",
    "RunFolder",
    "RunReader",
    "configure_logging",
    "discard_checkpoints",
    "discarded",
    "empty_trash",
    "find_run",
    "latest_checkpoint",
    "list_checkpoints",
    "load_samples",
    "pin_checkpoint",
    "save_samples",
    "unpin_checkpoint",
    "verify_checkpoint",
    "write_checkpoint",
]
