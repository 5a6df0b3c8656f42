"""status.json while a run is trained: what is true of it now."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from typing import Any

from loguru import logger

from fettle.runs import RunFolder

# A person reads the status, and a page polls the log: once a second is live enough for both.
INTERVAL_SECONDS = 1.0


class LiveStatus:
    """Fields that are kept, and written at most once a second. A full disk costs only freshness."""

    def __init__(self, folder: RunFolder, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._clock = clock
        self._fields: dict[str, Any] = {"state": "running", "pid": os.getpid(), "host": platform.node()}
        self._written = float("-inf")

    def update(self, *, force: bool = False, **fields: Any) -> None:
        """Take in what is new, and write where it is time or `force` says so."""
        self._fields.update(fields)
        now = self._clock()
        if not force and now - self._written < INTERVAL_SECONDS:
            return
        self._written = now
        try:
            self._folder.write_status({**self._fields, "updated_at": time.time()})
        except OSError as error:
            logger.debug("status.json could not be written: {}", error)
