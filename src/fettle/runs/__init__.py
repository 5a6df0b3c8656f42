"""The run folder. The only room that knows file names."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from fettle.runs.reader import RunReader
    from fettle.runs.row_stream import RowLog, RowReader
    from fettle.runs.samples import load_samples, save_samples
    from fettle.runs.trash import discard_checkpoints, discarded, empty_trash

__all__ = [
    "EventLog",
    "LogFollower",
    "RowLog",
    "RowReader",
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

# Loaded when first asked for: a server that lists runs needs no numpy.
_HOMES = {
    "EventLog": "events",
    "LogFollower": "follow",
    "RowLog": "row_stream",
    "RowReader": "row_stream",
    "RunFolder": "folder",
    "RunReader": "reader",
    "configure_logging": "logs",
    "discard_checkpoints": "trash",
    "discarded": "trash",
    "empty_trash": "trash",
    "find_run": "folder",
    "latest_checkpoint": "checkpoints",
    "list_checkpoints": "checkpoints",
    "load_samples": "samples",
    "pin_checkpoint": "checkpoints",
    "save_samples": "samples",
    "unpin_checkpoint": "checkpoints",
    "verify_checkpoint": "checkpoints",
    "write_checkpoint": "checkpoints",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fettle.runs' has no attribute '{name}'")
    return getattr(import_module(f"fettle.runs.{_HOMES[name]}"), name)
