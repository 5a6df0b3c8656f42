"""What people ask of a running trainer: stop, pause, resume, save. Obeyed between two steps of any loop."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from loguru import logger

from fettle.errors import RunError
from fettle.runs.control import ControlRequest, read_requests
from fettle.train.recorder import Recorder

# What a person notices as at once, and a trainer that sleeps as nothing.
POLL_SECONDS = 0.2


class Wanted(NamedTuple):
    """What a loop is to do after a step."""

    save: bool = False
    stop: bool = False
    pause: bool = False


class ControlFile:
    """The requests of control.json, each given once. One `stat` tells whether there are new ones.

    Those that are there already were asked of an earlier trainer: they are not given.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._new: list[ControlRequest] = []
        self._known: set[str] = set()
        self.waiting()
        self._new.clear()

    def waiting(self) -> bool:
        """Whether something was asked that was not taken yet."""
        try:
            found = os.stat(self._path)  # noqa: PTH116 - every step; Path.stat takes twice as long
        except OSError:
            return bool(self._new)
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        if stamp != self._stamp and S_ISREG(found.st_mode):
            self._stamp = stamp
            self._read()
        return bool(self._new)

    def take(self) -> list[ControlRequest]:
        """The new requests, in order."""
        self.waiting()
        taken, self._new = self._new, []
        return taken

    def _read(self) -> None:
        try:
            requests = read_requests(self._path)
        except RunError as error:
            logger.warning("{} Nothing of it is obeyed.", error)
            return
        new = [request for request in requests if request.id not in self._known]
        self._known.update(request.id for request in new)
        self._new += new


class Control:
    """Obeys the requests and records each. On processes that record nothing, both arguments are None.

    After a step the loop asks `obey`, saves and stops as it says, and then calls `hold`, which
    sleeps while the run is paused.
    """

    def __init__(
        self,
        file: ControlFile | None,
        recorder: Recorder | None,
        agreed: Callable[[tuple[bool, ...]], tuple[bool, ...]] = lambda flags: flags,
    ) -> None:
        self._file, self._recorder, self._agreed = file, recorder, agreed
        self.paused = False
        self.stopped = False
        """Whether somebody asked the training to end."""

    def waiting(self) -> bool:
        """Whether something was asked; of this process alone."""
        return self._file is not None and self._file.waiting()

    def obey(self, step: int) -> Wanted:
        """What was asked until the end of `step`, on every process alike."""
        requests = [] if self._file is None else self._file.take()
        wanted = Wanted(*self._agreed(tuple(_wanted(requests, paused=self.paused))))
        self.paused, self.stopped = wanted.pause and not wanted.stop, self.stopped or wanted.stop
        for request in requests:
            assert self._recorder is not None
            self._recorder.control(step, request, paused=self.paused)
        return wanted

    def hold(self, step: int, *, stopping: Callable[[], bool] = lambda: False, saved: bool) -> Wanted:
        """Sleep while paused. Ends early where a checkpoint is asked for that was not `saved` yet.

        `stopping` says whether a signal asks for the end; signal handlers run meanwhile.
        """
        while self.paused:
            time.sleep(POLL_SECONDS)
            self.paused, *_ = self._agreed((not stopping(),))
            wanted = self.obey(step) if self.paused else Wanted()
            if wanted.stop or (wanted.save and not saved):
                return wanted
        return Wanted()


def _wanted(requests: Iterable[ControlRequest], *, paused: bool) -> Wanted:
    """All requests together, the later one of `pause` and `resume` counting."""
    save = stop = False
    for request in requests:
        save = save or request.action == "checkpoint"
        stop = stop or request.action == "stop"
        if request.action in ("pause", "resume"):
            paused = request.action == "pause"
    return Wanted(save, stop, paused)
