"""The process of a job: started so that it outlives its server, and known again by when it began."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

PROC = Path("/proc")
ENDED_STATES = "ZX"
"""Of /proc: a process that nobody has waited for yet, and one that is going."""


def start_training(config: Path, run: Path, log: Path, device: int | None) -> subprocess.Popen[bytes]:
    """`fettle train config --out run` in a session of its own. Raises OSError."""
    command = [sys.executable, "-m", "fettle", "train", str(config), "--out", str(run), "--quiet"]
    environment = dict(os.environ)
    if device is not None:
        environment["CUDA_VISIBLE_DEVICES"] = str(device)
    with log.open("wb") as stream:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env=environment,
            # A Ctrl-C at the server's terminal, or its hang-up, does not reach another session.
            start_new_session=True,
        )


def process_start(pid: int) -> str | None:
    """When a process began, in the system's own terms; None where it does not live."""
    if not (PROC / "self" / "stat").exists():
        return _start_by_ps(pid)
    try:
        told = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name in parentheses may hold anything; the fields after it are fixed (proc(5)): 3 is the
    # state, 22 the start in ticks since boot.
    state, *others = told.rpartition(")")[2].split()
    return None if state in ENDED_STATES else others[18]


def _start_by_ps(pid: int) -> str | None:
    told = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, start = told.stdout.strip().partition(" ")
    return None if not state or state[0] in ENDED_STATES else start.strip()


def is_alive(pid: int | None, start: str | None) -> bool:
    """Whether this very process lives."""
    return pid is not None and start is not None and process_start(pid) == start


def end_process(pid: int, *, at_once: bool) -> None:
    """Ask a process to save and end; or kill it and all it started."""
    try:
        if at_once:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return  # It ended just now.
