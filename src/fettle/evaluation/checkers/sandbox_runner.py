"""Runs one program under limits. Started by the sandbox as a file; standard library only.

This process stays outside of the limits and ends everything with itself; the program runs in its child.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import runpy
import signal
import struct
import sys
import types
from pathlib import Path
from typing import Any

# linux/prctl.h and linux/capability.h
PR_SET_KEEPCAPS, CAP_DAC_READ_SEARCH, CAPABILITY_VERSION = 8, 2, 0x20080522


def main() -> None:
    """`sandbox_runner.py FD`: reads what to do as JSON, writes what became of it to the file descriptor."""
    said = int(sys.argv[1])
    task: dict[str, Any] = json.load(sys.stdin)
    child = os.fork()
    if child == 0:
        _program(task, said)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        reasons: dict[int, str] = {signal.SIGXCPU: "used up its CPU time", signal.SIGKILL: "was killed"}
        os.write(said, f"it {reasons.get(number, f'ended by signal {number}')}".encode())
    os._exit(0)


def _program(task: dict[str, Any], said: int) -> None:
    """Never returns. The last thing a program that passed can do is to be told the secret."""
    try:
        _confine(task)
    except (OSError, ValueError) as error:
        os.write(said, f"it could not be confined: {error}".encode())
        os._exit(1)
    os.write(said, task["began"].encode())
    module = types.ModuleType("answer")
    sys.modules["answer"] = module
    secret = task.pop("secret")
    message = secret
    try:
        for name in ("answer", "tests"):
            exec(compile(task[name], f"{name}.py", "exec"), module.__dict__)
    except BaseException as error:  # noqa: BLE001 - also SystemExit: who leaves early has passed nothing
        message = f"{type(error).__name__}: {str(error)[:200]}"
    os.write(said, message.encode(errors="replace"))
    os._exit(0)


def _confine(task: dict[str, Any]) -> None:
    if task["landlock"]:
        confine = runpy.run_path(str(Path(__file__).with_name("landlock.py")))["write_only_below"]
        if not confine(os.getcwd()):  # noqa: PTH109
            raise OSError("the kernel refused Landlock")
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, 256)
    _limit(resource.RLIMIT_FSIZE, task["file_bytes"])
    # A second between being told and being killed, so that the reason is known.
    resource.setrlimit(resource.RLIMIT_CPU, (task["cpu_seconds"], task["cpu_seconds"] + 1))
    _limit(resource.RLIMIT_NPROC, task["processes"])
    if task["user"] is not None:
        _become(task["user"])
    _limit(resource.RLIMIT_AS, task["memory_bytes"])


def _become(user: int) -> None:
    """Another user for good, who may still read what root may: Python itself can lie in root's home."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    rights = struct.pack("=6I", 1 << CAP_DAC_READ_SEARCH, 1 << CAP_DAC_READ_SEARCH, 0, 0, 0, 0)
    if libc.capset(struct.pack("=Ii", CAPABILITY_VERSION, 0), rights) != 0:
        raise OSError(ctypes.get_errno(), "cannot give up the rights of root")


def _limit(what: int, value: int) -> None:
    resource.setrlimit(what, (value, value))


if __name__ == "__main__":
    main()
