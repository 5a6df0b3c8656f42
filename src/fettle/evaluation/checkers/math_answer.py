"""Answers that are mathematical expressions: right where they are equal, however they are written."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import threading
import weakref
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fettle.config.checkers import MathConfig
from fettle.errors import MissingExtraError
from fettle.evaluation.checkers.check import Check, Checker, Reference

# A result stands at the end; parsing time grows faster than the text.
SEARCHED_CHARACTERS = 5_000
START_SECONDS = 60.0


def math_answer(config: MathConfig) -> Checker:
    """Right where math-verify finds answer and reference equal.

    Raises MissingExtraError without the library.
    """
    if find_spec("math_verify") is None:
        raise MissingExtraError("checker math needs math-verify. Install it with: pip install 'fettle[math]'")
    worker = _Worker()

    def check(answer: str, against: Reference) -> Check:
        right = against.right(config.reference_field)
        said = answer[-SEARCHED_CHARACTERS:]
        found = worker.ask({"right": right, "said": said}, config.timeout_seconds)
        if found is None:
            return Check(None, f"the comparison took longer than {config.timeout_seconds:g} s")
        return Check(found["correct"], found["reason"], found.get("formatted"))

    return check


class _Worker:
    """One process that compares; started when first needed, and again after it had to be ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None
        self._lock = threading.Lock()

    def ask(self, question: dict[str, str], timeout: float) -> dict[str, Any] | None:
        """The answer of the process; None where it took too long. Raises ChildProcessError where it died."""
        with self._lock:
            process = self._process or self._start()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps(question) + "\n")
                process.stdin.flush()
                ready = select.select([process.stdout], [], [], timeout)[0]
                line = process.stdout.readline() if ready else None
            except OSError:
                line = ""
            if not line:
                self._end()
            if line is None:
                return None
        if not line:
            raise ChildProcessError(
                "the process that compares expressions ended; it may have run out of memory"
            )
        return json.loads(line)

    def _start(self) -> subprocess.Popen[str]:
        # -P: the files beside the program are no modules of their own.
        program = [sys.executable, "-P", str(Path(__file__).with_name("math_worker.py"))]
        process = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._finalizer = weakref.finalize(self, _end, process)
        self._process = process
        self._warm_up(process)
        return process

    def _warm_up(self, process: subprocess.Popen[str]) -> None:
        """Loading the library takes seconds, which are not those of the first answer."""
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"right": "1", "said": "1"}) + "\n")
        process.stdin.flush()
        if select.select([process.stdout], [], [], START_SECONDS)[0]:
            process.stdout.readline()

    def _end(self) -> None:
        if self._finalizer is not None:
            self._finalizer()
        self._process = None


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
