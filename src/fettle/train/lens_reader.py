"""What a training asks of lenses that read its model while it learns; `fettle.LiveDrift` is one."""

from __future__ import annotations

from typing import Any, Protocol

from fettle.runs import RunFolder


class LensReader(Protocol):
    """Reads concepts off a model that is trained. Trainers make none themselves: they are given one."""

    def settings(self) -> dict[str, Any]:
        """What it was made with, as plain values."""
        ...

    def check(self, model: str) -> None:
        """Raises FettleError, before anything is trained or written, for lenses of another model."""
        ...

    def begin(self, model: Any, folder: RunFolder, step: int) -> None:
        """Read the model as the run begins with it, or go on after `step`. Raises FettleError.

        The mode of every module and all random state stay as they were, as in `read`.
        """
        ...

    def due(self, step: int, *, last: bool) -> bool:
        """Whether the weights after this step are read; `last`: there are no more."""
        ...

    def read(self, model: Any, step: int) -> dict[str, Any] | None:
        """Read the weights after `step`; what the log says of it, None where they could not be read."""
        ...
