"""Fine-tune a language model, and know when to stop, which checkpoint to ship, and what data to add next."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fettle.api import Run, evaluate, open_run
    from fettle.data.sequence import Sequence
    from fettle.lens.live_drift import LiveDrift
    from fettle.scoring import Scores, score
    from fettle.train.callback import FettleCallback
    from fettle.train.held_out import HeldOut
    from fettle.train.lightning import LightningCallback
    from fettle.train.record import record
    from fettle.train.recorder import Recorder

__version__ = "0.1.0"

__all__ = [
    "FettleCallback",
    "HeldOut",
    "LightningCallback",
    "LiveDrift",
    "Recorder",
    "Run",
    "Scores",
    "Sequence",
    "evaluate",
    "open_run",
    "record",
    "score",
]

# Loaded when first asked for, so that watching and deciding never import torch.
_HOMES = {
    "FettleCallback": "fettle.train.callback",
    "HeldOut": "fettle.train.held_out",
    "LightningCallback": "fettle.train.lightning",
    "LiveDrift": "fettle.lens.live_drift",
    "Recorder": "fettle.train.recorder",
    "Run": "fettle.api",
    "Scores": "fettle.scoring.scores",
    "Sequence": "fettle.data.sequence",
    "evaluate": "fettle.api",
    "open_run": "fettle.api",
    "record": "fettle.train.record",
    "score": "fettle.scoring",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fettle' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
