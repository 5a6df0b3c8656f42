"""A FastAPI application of the tests as a process of its own: started, killed, started again."""

from __future__ import annotations

import gc
import os
import signal
import socket
import time
import urllib.request
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn


class AppServer:
    """Serves what `app` makes, at an address that it keeps."""

    def __init__(self, app: Callable[[], Any], pid_file: Path) -> None:
        self._app, self.pid_file = app, pid_file
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Also from the process of a trainer: whoever started it, `kill` finds it."""
        process = os.fork()
        if process == 0:
            gc.freeze()
            try:
                self.pid_file.write_text(str(os.getpid()))
                warnings.simplefilter("ignore")
                uvicorn.run(self._app(), host="127.0.0.1", port=self.port, log_level="critical")
            finally:
                os._exit(1)
        while not self.answers():
            time.sleep(0.01)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/healthz", timeout=1) as response:
                return response.status == 200
        except OSError:
            return False

    def kill(self) -> None:
        process = int(self.pid_file.read_text())
        os.kill(process, signal.SIGKILL)
        try:
            os.waitpid(process, 0)
        except ChildProcessError:
            while self.answers():
                time.sleep(0.01)

    def freeze(self) -> None:
        """As a network does that loses every packet: nothing is refused, nothing answers, nothing is lost."""
        os.kill(int(self.pid_file.read_text()), signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(int(self.pid_file.read_text()), signal.SIGCONT)
