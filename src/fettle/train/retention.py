"""The retention rules, applied while training."""

from __future__ import annotations

from collections.abc import Callable

from loguru import logger

from fettle.config import CheckpointsConfig
from fettle.decide.retention import retain
from fettle.errors import RunError
from fettle.runs import RunFolder, RunReader, discard_checkpoints, empty_trash


class CheckpointRetention:
    """After each save, removes the checkpoints of a run that no rule keeps. It never stops training."""

    def __init__(self, folder: RunFolder, policy: CheckpointsConfig, forget: Callable[[str], None]) -> None:
        """`forget` has a service delete what it keeps at a URL."""
        self.folder = folder
        self.policy = policy
        self._forget = forget
        self._reader: RunReader | None = None

    def apply(self, saved_step: int) -> None:
        """Remove what nothing keeps, now that the checkpoint of `saved_step` is on disk."""
        if self.policy.keeps_all:
            return
        try:
            if self._reader is None:
                self._reader = RunReader(self.folder.path)
            self._reader.refresh()
            checkpoints = self._reader.checkpoints()
            rows = retain(self.policy, checkpoints, self._reader.evals(), resume_step=saved_step)
            removed = [row for row in rows if not row.keep]
            empty_trash([self.folder.checkpoints_path])
            discard_checkpoints([row.path for row in removed])
            urls = {c.path: c.url for c in checkpoints}
            for url in filter(None, (urls[row.path] for row in removed)):
                self._forget(url)
        except (RunError, OSError) as error:
            logger.warning("no checkpoint was removed: {}", error)
            return
        if removed:
            freed = sum(row.size_bytes or 0 for row in removed) / 1e6
            names = ", ".join(row.path.name for row in removed)
            logger.info("removed {} by the rules of `checkpoints` ({:.0f} MB)", names, freed)
