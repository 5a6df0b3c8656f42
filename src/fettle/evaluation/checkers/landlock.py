"""Landlock: the kernel's way for a process to give up rights it will not need (Linux 5.13 and later).

Standard library only: the sandbox loads this file by itself.
"""

from __future__ import annotations

import ctypes
import os
import struct

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION_FLAG, PATH_BENEATH, PR_SET_NO_NEW_PRIVS = 1, 1, 38
# linux/landlock.h
WRITE_FILE, TRUNCATE, REFER = 1 << 1, 1 << 14, 1 << 13
REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))
TCP_BIND_AND_CONNECT = 0b11
ABSTRACT_SOCKETS_AND_SIGNALS = 0b11


def landlock_version() -> int:
    """What the kernel knows of it; 0 for nothing."""
    try:
        return max(0, _call(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION_FLAG))
    except (OSError, AttributeError):
        return 0


def write_only_below(folder: str) -> bool:
    """Give up writing outside a folder for good, and from newer kernels on TCP and signals to others.

    Applies to this process and all it starts. False where the kernel cannot.
    """
    version = landlock_version()
    if version < 1:
        return False
    writes = WRITE_FILE | REMOVE_AND_MAKE | (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0)
    attributes = struct.pack("=Q", writes)
    attributes += struct.pack("=Q", TCP_BIND_AND_CONNECT) if version >= 4 else b""
    attributes += struct.pack("=Q", ABSTRACT_SOCKETS_AND_SIGNALS) if version >= 6 else b""
    rules = _call(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if rules < 0:
        return False
    only_files = writes & (WRITE_FILE | TRUNCATE)
    allowed = _allow(rules, folder, writes) and _allow(rules, os.devnull, only_files)
    libc = ctypes.CDLL(None, use_errno=True)
    done = (
        allowed and libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 and _call(RESTRICT_SELF, rules, 0) == 0
    )
    os.close(rules)
    return done


def _allow(rules: int, path: str, rights: int) -> bool:
    at = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return _call(ADD_RULE, rules, PATH_BENEATH, struct.pack("=Qi", rights, at), 0) == 0
    finally:
        os.close(at)


def _call(number: int, *arguments: object) -> int:
    return int(ctypes.CDLL(None, use_errno=True).syscall(number, *arguments))
