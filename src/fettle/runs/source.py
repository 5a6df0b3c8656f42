"""What an importer of another tool's runs has to offer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from fettle.runs.records import Checkpoint, State

Kind = Literal["fettle", "huggingface", "llama_factory", "metrics", "tensorboard", "tinker_cookbook"]
"""Which tool's files a run is read from; `metrics` is any other metrics.jsonl."""


class Source(Protocol):
    """One run of any tool, read as records of fettle. It never writes, and never raises on a torn end."""

    kind: Kind
    path: Path

    @property
    def generation(self) -> int:
        """Grows when the records given so far no longer count, and all are given again."""
        ...

    @property
    def segment(self) -> str:
        """Names what was read so far, the same in other processes; it changes with `generation`."""
        ...

    def poll(self) -> list[dict[str, Any]]:
        """Records that are new since the last call, under fettle's names (see docs/run-folder.md).

        Not all of them at once, where there are many: [] says that all were given.
        """
        ...

    def checkpoints(self, cross_entropy: Mapping[int, float | None]) -> list[Checkpoint]:
        """Saved checkpoints by step, given what the fixed eval of a step measured."""
        ...

    def state(self) -> State | None:
        """How the run stands, where the tool's own files tell; None where its records must."""
        ...

    def problems(self) -> list[str]:
        """What could not be read, one line each; the rest stands."""
        ...
