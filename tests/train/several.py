"""Processes of one data-parallel training, forked: what they import is paid already."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Callable

import torch.multiprocessing
from accelerate.state import AcceleratorState


def several(work: Callable[[], object], count: int) -> None:
    """Do the same in so many processes, with the environment in which a launcher starts them.

    Raises ProcessRaisedException where one of them fails.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
    torch.multiprocessing.start_processes(_one, (work, meeting), nprocs=count, start_method="fork")


def _one(rank: int, work: Callable[[], object], meeting: dict[str, str]) -> None:
    gc.freeze()
    os.environ.update(meeting, RANK=str(rank), LOCAL_RANK=str(rank))
    # Another test of this process may have trained by itself.
    AcceleratorState._reset_state(reset_partial_state=True)
    work()
