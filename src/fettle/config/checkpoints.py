"""The `checkpoints` section: which checkpoints stay on disk."""

from __future__ import annotations

from pydantic import Field

from fettle.config.strict import Strict


class CheckpointsConfig(Strict):
    """A checkpoint stays that any of the rules keeps. All three null: every one stays."""

    keep_best: int | None = Field(default=None, ge=1)
    """Keeps this many of the best by the fixed eval, the verdict's choice among them. All three keys null:
    every checkpoint stays. Otherwise the verdict's choice, the newest and pinned ones stay in any case."""
    keep_latest: int | None = Field(default=None, ge=1)
    """Keeps this many of the newest."""
    keep_every_steps: int | None = Field(default=None, ge=1)
    """Keeps those of every so many steps."""

    @property
    def keeps_all(self) -> bool:
        """Whether no rule is given, so that nothing is ever removed."""
        return self.keep_best is None and self.keep_latest is None and self.keep_every_steps is None
