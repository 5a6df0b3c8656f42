"""SkyRL's server of the Tinker protocol: one that nobody here wrote, in an environment of its own.

The environment (2.2 GB, from PyPI alone) is built once, outside the repository: four minutes. FETTLE_SKYRL
names the folder it lies in; with FETTLE_REQUIRE_SKYRL set, tests fail where it cannot be built, else skip.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

VERSION = "0.3.0"
SDK = "0.24.1"
"""The newest series of the `tinker` SDK that this server understands in full."""
FOLDER = Path(os.environ.get("FETTLE_SKYRL") or Path.home() / ".cache" / "fettle-tests")
# As in the Makefile: the plain name installs the CPU build where one is at hand.
TORCH = os.environ.get("TORCH", "torch==2.13.0")
ALPHA = 32
"""SkyRL scales every LoRA update by this over the rank."""

WHOLE = ".whole"
"""In a folder that was built to the end."""

SITE = """\
import sys, typing
if sys.version_info < (3, 12):  # pydantic takes no other TypedDict there
    import typing_extensions
    typing.TypedDict = typing_extensions.TypedDict
"""
# Its own command starts the engine through uv, which is not needed for an environment that is there.
LAUNCH = """\
import sys, uvicorn
from skyrl.tinker import api
from skyrl.tinker.config import EngineConfig, config_to_argv
api._build_uv_run_cmd_engine = lambda parent, config: [
    sys.executable, "-m", "skyrl.tinker.engine", *config_to_argv(config)
]
api.app.state.engine_config = EngineConfig.model_validate_json(sys.argv[1])
uvicorn.run(api.app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
"""
BACKEND = {"max_lora_adapters": 12, "max_lora_rank": 8, "loss_chunk_size": 0}


SERVER_NAME = "skyrl-{}-py{}.{}".format(VERSION, *sys.version_info[:2])
SDK_NAME = f"tinker-{SDK}"


def is_built() -> bool:
    """Whether server and SDK are there, so that nothing would be downloaded."""
    return all((FOLDER / name / WHOLE).exists() for name in (SERVER_NAME, SDK_NAME))


def skyrl_python() -> Path:
    """Python of the environment, built where it is missing; the test skips where that fails."""
    return built(SERVER_NAME, _build_server) / "bin" / "python"


def sdk_folder() -> Path:
    """Folder of the SDK that the server understands; first on PYTHONPATH it wins over the installed one."""
    return built(SDK_NAME, _build_sdk)


def built(name: str, build: Callable[[Path], None]) -> Path:
    """The folder `name`, made by `build` where it is missing; one that was left half made is made again."""
    folder = FOLDER / name
    FOLDER.mkdir(parents=True, exist_ok=True)
    with FileLock(FOLDER / f"{name}.lock"):
        if not (folder / WHOLE).exists():
            shutil.rmtree(folder, ignore_errors=True)
            try:
                build(folder)
            except (subprocess.CalledProcessError, OSError) as error:
                message = (
                    f"{name} cannot be built in {FOLDER}: {_last_error(error)}. "
                    "It comes from PyPI; or set FETTLE_SKYRL to a folder that holds it"
                )
                if os.environ.get("FETTLE_REQUIRE_SKYRL"):
                    pytest.fail(message, pytrace=False)
                pytest.skip(message)
            (folder / WHOLE).touch()
    return folder


def _last_error(error: Exception) -> str:
    """What pip says in the end, before its notices of newer versions of itself."""
    told: str = getattr(error, "stderr", None) or ""
    errors = [line for line in told.splitlines() if line.startswith("ERROR:")] or told.split("\n")
    return errors[-1].strip() or str(error)


def _build_server(folder: Path) -> None:
    venv.create(folder, with_pip=True)
    # torch first: what needs it would bring another.
    for wanted in (TORCH, f"skyrl[tinker,jax]=={VERSION}"):
        _pip(folder / "bin" / "python", wanted)


def _build_sdk(folder: Path) -> None:
    _pip(Path(sys.executable), "--no-deps", "--target", str(folder), f"tinker=={SDK}")


def _pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", *arguments]
    subprocess.run(command, check=True, capture_output=True, text=True)


class SkyRLServer:
    """The running server, and what it was asked to do."""

    def __init__(self, base: Path, folder: Path) -> None:
        self.base, self.folder = base, folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.database = folder / "requests.db"

    def start(self) -> None:
        site = self.folder / "site"
        site.mkdir(parents=True, exist_ok=True)
        (site / "sitecustomize.py").write_text(SITE)
        environment = {
            **os.environ,
            "PYTHONPATH": str(site),
            "HF_HUB_OFFLINE": "1",
            "JAX_PLATFORMS": "cpu",
            # The same small model in every session: compiled once.
            "JAX_COMPILATION_CACHE_DIR": str(FOLDER / "jax"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        config = {
            "base_model": str(self.base),
            "backend": "jax",
            "backend_config": BACKEND,
            "checkpoints_base": str(self.folder / "checkpoints"),
            "database_url": f"sqlite:///{self.database}",
        }
        command = [str(skyrl_python()), "-c", LAUNCH, json.dumps(config), str(self.port)]
        with (self.folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        while not self._answers():
            if self._process.poll() is not None:
                told = (self.folder / "server.log").read_text(errors="replace")
                pytest.fail(f"SkyRL ended with {self._process.returncode}:\n{told[-3000:]}")
            time.sleep(0.2)

    def stop(self) -> None:
        # The group: its engine is a process of its own.
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/healthz", timeout=1) as response:
                return response.status == 200
        except OSError:
            return False

    def requests(self, after: int = 0) -> list[dict[str, Any]]:
        """What it was asked, in order: id, type, model and content of each request."""
        with closing(sqlite3.connect(self.database)) as database:
            rows = database.execute(
                "SELECT request_id, request_type, model_id, request_data FROM futures"
                " WHERE request_id > ? ORDER BY request_id",
                (after,),
            ).fetchall()
        return [
            {"id": id, "type": str(type).lower(), "model": model, **json.loads(data)}
            for id, type, model, data in rows
        ]


@contextmanager
def skyrl_server(base: Path, folder: Path) -> Iterator[SkyRLServer]:
    server = SkyRLServer(base, folder)
    folder.mkdir(parents=True, exist_ok=True)
    server.start()
    try:
        yield server
    finally:
        server.stop()
