"""A person beside a trainer: asks for something, and waits until it is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fettle.runs import RunReader
from fettle.runs.control import Action, ask_trainer


def ask(run: Path, *actions: Action) -> None:
    for action in actions:
        ask_trainer(run / "control.json", action)


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What the condition gives once it is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "never true"
        time.sleep(0.02)
    return found


def obeyed(run: Path) -> list[tuple[str, int]]:
    """Every request that was obeyed, and the step."""
    return [(record["action"], record["step"]) for record in RunReader(run).records("control")]


class Person(threading.Thread):
    """Does something once the run is paused; `join` raises what went wrong."""

    def __init__(self, run: Path, then: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._run, self._then = run, then
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            until(self._paused)
            self._then()
        except BaseException as error:  # noqa: BLE001 - told to the test's thread
            self._error = error
        finally:
            if self._error is not None:
                ask(self._run, "stop")

    def _paused(self) -> bool:
        """By log and by status: the log says it for an instant too where one step is asked for both."""
        reader = RunReader(self._run)
        return reader.state() == "paused" and (reader.status() or {}).get("state") == "paused"

    def join(self, timeout: float | None = 60.0) -> None:
        super().join(timeout)
        if self._error is not None:
            raise self._error
