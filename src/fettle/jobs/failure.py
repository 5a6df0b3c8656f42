"""Why a job failed, from what its process printed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from fettle.runs.log_lines import printable

TAIL_BYTES = 1 << 16
TRACEBACK = "Traceback (most recent call last)"
OURS = "fettle: "
"""Begins what the command line says of an error that can be put right."""


def printed_tail(log: Path) -> str:
    """The last lines of a log; "" where there is none."""
    try:
        with log.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - TAIL_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(printable(line).rstrip() for line in text.splitlines())


def failure(log: Path, exit_code: int | None) -> tuple[str, str | None]:
    """The error in one line, and the traceback where there is one."""
    text = printed_tail(log)
    traceback = text[text.rfind(TRACEBACK) :].strip() if TRACEBACK in text else None
    told = [line.removeprefix(OURS) for line in text.splitlines() if line.startswith(OURS)]
    if exit_code is not None and exit_code < 0:
        return f"The process was killed by {_signal_name(-exit_code)}.", traceback
    if told:
        return told[-1], traceback
    if traceback:
        return traceback.splitlines()[-1], traceback
    if exit_code is not None:
        return f"The process ended with exit code {exit_code} and did not say why.", None
    return "The process is gone and did not say why: it was killed, or the machine was restarted.", None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
