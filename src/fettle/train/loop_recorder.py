"""A recorder for a loop written by hand, which asks it what people want."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fettle.train.adopting_recorder import AdoptingRecorder
from fettle.train.control import Control, ControlFile


class LoopRecorder(AdoptingRecorder):
    """Heeds control.json at the end of `step`: sleeps through a pause there, tells the loop of the rest."""

    should_save = False
    """Whether somebody asked for a checkpoint that was not saved yet; a stop asks for one too."""

    def heed(self, requests: ControlFile) -> None:
        """From here on, obey these."""
        self._control = Control(requests, self)

    def stepped(self, step: int) -> None:
        wanted = self._control.obey(step)
        self.should_save = self.should_save or wanted.save or wanted.stop
        # What the loop has to save waits until it runs on.
        while self._control.paused:
            wanted = self._control.hold(step, saved=False)
            self.should_save = self.should_save or wanted.save or wanted.stop

    def checkpoint(
        self,
        step: int,
        fill: Callable[[Path], object],
        *,
        epoch: float | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Path:
        self.should_save = False
        return super().checkpoint(step, fill, epoch=epoch, provenance=provenance)

    @property
    def stopped_on_request(self) -> bool:
        """Whether somebody asked the loop to end, which early stopping did not."""
        return self._control.stopped and not super().should_stop

    @property
    def should_stop(self) -> bool:
        """Whether the loop is to end: early stopping said so after the last step, or somebody asked."""
        return self._control.stopped or super().should_stop
