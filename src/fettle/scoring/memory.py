"""How much memory is really free."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

CGROUP = Path("/sys/fs/cgroup")


def free_host_bytes(cgroup: Path = CGROUP) -> int:
    """Bytes that a process of this machine may still take: of the machine, and of its container's limit.

    Pages of files that the kernel would drop for it count as free. Both versions of control groups are read.
    """
    psutil: Any = import_module("psutil")
    free = int(psutil.virtual_memory().available)
    for limit, usage, stat, droppable in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat",
         "total_inactive_file"),
    ):  # fmt: skip
        most, used = _number(cgroup / limit), _number(cgroup / usage)
        if most is not None and used is not None:
            free = min(free, max(0, most - used + _field(cgroup / stat, droppable)))
    return free


def _number(file: Path) -> int | None:
    """The number in a file; None where there is none, or no limit."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _field(file: Path, name: str) -> int:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), 0)
