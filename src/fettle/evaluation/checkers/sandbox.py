"""Runs a program that nobody has read: limits, an empty folder, no network, and an end to all it started.

For programs of a model that means no harm but makes mistakes. Who plans to break out of it needs a
virtual machine around all of this.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fettle.config.checkers import CodeConfig
from fettle.evaluation.checkers.landlock import landlock_version

# As root every program is a user of its own, so that its processes are counted by themselves.
USERS = itertools.cycle(range(61_000, 65_000))
START_SECONDS = 2.0
BEGAN = "began "


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a program."""

    passed: bool | None
    """None where it could not be run."""
    reason: str | None = None


def run_tests(answer: str, tests: str, limits: CodeConfig) -> Outcome:
    """Run Python and then its tests; it passed when it came to the end of them.

    Leaving early, with whatever exit status, is not passing.
    """
    secret = secrets.token_hex(16)
    user = next(USERS) if os.geteuid() == 0 else None
    task = {
        "answer": answer,
        "tests": tests,
        "began": BEGAN,
        "secret": secret,
        "user": user,
        "landlock": landlock_version() > 0,
        "cpu_seconds": math.ceil(limits.timeout_seconds),
        "memory_bytes": limits.memory_bytes,
        "file_bytes": limits.file_bytes,
        "processes": limits.processes if user is not None else _own_tasks() + limits.processes,
    }
    with tempfile.TemporaryDirectory(prefix="fettle-code-", ignore_cleanup_errors=True) as folder:
        if user is not None:
            os.chown(folder, user, user)
        said, late = _run(json.dumps(task).encode(), folder, limits.timeout_seconds)
    _, began, last = said.partition(BEGAN)
    if not began:
        return Outcome(None, f"the sandbox did not start: {said or 'nothing is known'}")
    if late:
        return Outcome(False, f"it took longer than {limits.timeout_seconds:g} s")
    return Outcome(True) if last == secret else Outcome(False, last or "it ended before its tests did")


@cache
def missing_protections() -> list[str]:
    """What this machine cannot keep a program from, in words; empty where everything holds."""
    missing: list[str] = []
    if not _namespaces() and landlock_version() < 4:
        missing.append("it can reach the network")
    if not landlock_version() and os.geteuid() != 0:
        missing.append("it can write wherever you can")
    if not _namespaces():
        missing.append("processes that leave their group outlive it")
    return missing


def _run(task: bytes, folder: str, timeout: float) -> tuple[str, bool]:
    """What the runner said, and whether time ran out. Nothing the program started is left."""
    reading, writing = os.pipe()
    runner = str(Path(__file__).with_name("sandbox_runner.py"))
    environment = {"PATH": "/usr/bin:/bin", "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"}
    with subprocess.Popen(
        [*_namespaces(), sys.executable, "-I", "-B", runner, str(writing)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,
        pass_fds=(writing,),
    ) as process:
        os.close(writing)
        try:
            process.communicate(task, timeout + START_SECONDS)
            late = False
        except subprocess.TimeoutExpired:
            late = True
        finally:
            # Every process of the group, and with the first one of the namespace all that left it.
            _end_group(process.pid)
            said = _read(reading)
    return said, late


def _end_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _read(pipe: int) -> str:
    """What stands in the pipe by now: something may still hold its other end open."""
    os.set_blocking(pipe, False)
    try:
        return os.read(pipe, 4096).decode(errors="replace")
    except BlockingIOError:
        return ""
    finally:
        os.close(pipe)


@cache
def _namespaces() -> list[str]:
    """The command that takes away the network and the sight of other processes; empty where it may not."""
    program = shutil.which("unshare")
    if program is None:
        return []
    own_user = [] if os.geteuid() == 0 else ["--user", "--map-current-user"]
    command = [program, *own_user, "--net", "--ipc", "--pid", "--fork", "--kill-child"]
    try:
        tried = subprocess.run([*command, "true"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return []
    return command if tried.returncode == 0 else []


def _own_tasks() -> int:
    """Processes and threads of this user, which the kernel counts together with those of a program."""
    count = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if entry.stat().st_uid == os.geteuid():
                count += sum(1 for _ in (entry / "task").iterdir())
        except OSError:
            continue
    return count
