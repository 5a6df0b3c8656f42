"""The `fettle` command on SkyRL's server: run to its end, or killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from fettle.runs import RunReader
from skyrl_server import SkyRLServer, sdk_folder


def command(server: SkyRLServer, *arguments: str | Path) -> tuple[list[str], dict[str, str]]:
    """The fettle command with the SDK of the server."""
    path = [str(sdk_folder()), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "TINKER_BASE_URL": server.url,
        "TINKER_API_KEY": "tml-any",
    }
    return [sys.executable, "-m", "fettle", *map(str, arguments)], environment


def run(what: tuple[list[str], dict[str, str]], *, status: int = 0) -> str:
    """What it prints."""
    done = subprocess.run(what[0], env=what[1], capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def killed_after(step: int, what: tuple[list[str], dict[str, str]], folder: Path) -> None:
    """Train into `folder` until `step` is recorded, then SIGKILL."""
    with subprocess.Popen(what[0], env=what[1], stderr=subprocess.DEVNULL) as process:
        while _last_step(folder) < step:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)


def _last_step(run: Path) -> int:
    rows = RunReader(run).records("train", last=1) if (run / "metrics.jsonl").exists() else []
    return int(rows[-1]["step"]) if rows else 0
