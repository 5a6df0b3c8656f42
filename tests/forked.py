"""Work in a forked process: imports are paid already, and its threads end with it."""

from __future__ import annotations

import gc
import os
import pickle
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


class KilledError(Exception):
    """The process ended before the work did; the argument is its exit status, negative for a signal."""


def forked(work: Callable[[], Any], environment: dict[str, str] | None = None) -> Any:
    """What `work` returns or raises there."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told"
        child = os.fork()
        if child == 0:
            # What it inherits is not its own to clean up, least of all in the midst of an import.
            gc.freeze()
            # Whatever happens it ends here: what went on would be a second pytest.
            try:
                told.write_bytes(_outcome(work, environment or {}))
            finally:
                os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if not told.exists():
            raise KilledError(status)
        good, value = pickle.loads(told.read_bytes())
    if good:
        return value
    raise value


def _outcome(work: Callable[[], Any], environment: dict[str, str]) -> bytes:
    os.environ.update(environment)
    try:
        return pickle.dumps((True, work()))
    except BaseException as error:  # noqa: BLE001 - raised again in the parent
        text = traceback.format_exc()
        try:
            error.add_note(text)
            told = pickle.dumps((False, error))
            pickle.loads(told)
        except Exception:  # noqa: BLE001 - not every error can be sent
            return pickle.dumps((False, RuntimeError(text)))
        return told
