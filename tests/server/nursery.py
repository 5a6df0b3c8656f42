"""A process that has imported the server, and forks one for every order: imports are paid once.

It has one thread and nothing of a test in it, so that a fork of it is what a new interpreter would be.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from importlib import import_module
from typing import Any


def load() -> None:
    """Import what a server has imported once it answered."""
    import uvicorn

    import fettle.cli.serve
    import fettle.server.app
    from fettle.server.context import load_rooms

    assert uvicorn, fettle
    load_rooms()


def serve(ordered: int, output: int, errors: int) -> None:
    """Be `fettle ARGUMENTS`, with the environment and in the folder that a file tells."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with os.fdopen(ordered, "rb") as stream:
        order: dict[str, Any] = json.load(stream)
    null = os.open(os.devnull, os.O_RDONLY)
    for given, own in ((null, 0), (output, 1), (errors, 2)):
        os.dup2(given, own)
        os.close(given)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    for name, value in order["constants"].items():
        module, _, constant = name.rpartition(".")
        assert hasattr(import_module(module), constant), name
        setattr(import_module(module), constant, value)
    sys.argv = ["fettle", *order["arguments"]]
    from fettle.cli import main

    main()


def main() -> None:
    """Take orders until nobody is left who gives them."""
    orders = socket.socket(fileno=int(sys.argv[1]))
    load()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Nobody asks how they ended.
    while True:
        told, files, _, _ = socket.recv_fds(orders, 1, 3)
        if not told:
            return
        pid = os.fork()
        if pid == 0:
            orders.close()
            serve(*files)
            return
        for file in files:
            os.close(file)
        orders.send(str(pid).encode())


if __name__ == "__main__":
    main()
