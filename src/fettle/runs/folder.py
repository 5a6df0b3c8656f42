"""One run folder as its writer sees it."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import orjson
from filelock import FileLock, Timeout

from fettle.errors import RunError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

CONFIG, METADATA, METRICS, STATUS, CONTROL = (
    "config.yaml",
    "metadata.json",
    "metrics.jsonl",
    "status.json",
    "control.json",
)


# A folder of `fettle eval` holds config.yaml and metadata.json as well, and these.
RESULTS = "results"
# Where fettle's callback writes its run, in the output folder of another trainer.
CALLBACK_FOLDER = "fettle"
# What describes a run takes kilobytes; a reader must not fill its memory with what does not.
LARGEST_JSON_BYTES = 1 << 26


class RunFolder:
    """Names of everything in a run folder, and atomic writes to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path = path / CONFIG
        self.metadata_path = path / METADATA
        self.metrics_path = path / METRICS
        self.status_path = path / STATUS
        self.control_path = path / CONTROL
        self.log_path = path / "logs" / "train.log"
        self.checkpoints_path = path / "checkpoints"
        self.fixed_eval_path = path / "fixed_eval"
        self.predictions_path = path / "predictions" / "predictions.jsonl"
        self.evaluations_path = path / "evaluations" / "evaluations.jsonl"
        self.evaluations_lock_path = self.evaluations_path.parent / ".lock"
        self.drift_path = path / "lenses" / "drift.json"
        self.live_drift_path = path / "lenses" / "live.json"
        self.before_path = path / "lenses" / "before.safetensors"
        self.plot_path = path / "plots" / "training_curves.png"
        self.lock_path = path / ".lock"

    @classmethod
    def create(cls, path: Path, *, config_yaml: str, metadata: Mapping[str, Any]) -> RunFolder:
        """Make a new run folder. Raises RunError where one is already, or where none can be written."""
        folder = cls(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            if folder.metadata_path.exists() or folder.metrics_path.exists():
                raise RunError(f"{path} holds a run already. Give --out another folder.")
            for part in (folder.log_path.parent, folder.checkpoints_path, folder.fixed_eval_path):
                part.mkdir(exist_ok=True)
            replace_file(folder.config_path, config_yaml.encode())
            folder.write_metadata(metadata)
        except OSError as error:
            raise RunError(f"{path}: no run folder can be written here: {error.strerror or error}") from error
        return folder

    @staticmethod
    def is_run(path: Path) -> bool:
        """Whether a folder is a run folder of fettle."""
        described = (path / METADATA).is_file() and (path / CONFIG).is_file()
        return described and not (path / RESULTS).is_dir()

    @classmethod
    def find(cls, path: Path) -> RunFolder | None:
        """The run folder that a path means: itself, or the one that fettle's callback left in it."""
        folders = (path, path / CALLBACK_FOLDER)
        return next((cls(folder) for folder in folders if cls.is_run(folder)), None)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """A run folder that exists. Raises RunError where there is none."""
        folder = cls(path)
        if not folder.metadata_path.is_file():
            raise RunError(f"{path} is no run folder: it holds no {METADATA}")
        return folder

    @contextmanager
    def lock(self) -> Generator[None]:
        """Hold the run for writing. Raises RunError while another process does; a dead one holds nothing."""
        refusal = (
            f"{self.path}: another process is training this run. Stop it first, or give --out another folder."
        )
        with hold(self.lock_path, refusal):
            yield

    def write_status(self, status: Mapping[str, Any]) -> None:
        """Replace status.json at once; readers see the old one or the new one."""
        replace_file(self.status_path, _json(status), sync=False)

    def write_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Replace metadata.json at once."""
        replace_file(self.metadata_path, _json(metadata))

    def read_metadata(self) -> dict[str, Any]:
        """metadata.json; {} where there is none."""
        return read_json(self.metadata_path) or {}


@contextmanager
def hold(lock_path: Path, refusal: str) -> Generator[None]:
    """Hold a lock, in a folder that is made for it. Raises RunError with `refusal` while another holds it."""
    lock = FileLock(lock_path, blocking=False)
    try:
        lock_path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise RunError(refusal) from error
    except OSError as error:
        told = error.strerror or error
        raise RunError(f"{lock_path.parent}: cannot be written: {told}") from error
    try:
        yield
    finally:
        lock.release()


def is_locked(lock_path: Path) -> bool:
    """Whether a living process holds the lock for writing. Those who ask do not see each other."""
    if fcntl is None:
        return _is_locked_portably(lock_path)
    try:
        handle = os.open(lock_path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def _is_locked_portably(lock_path: Path) -> bool:
    """The same where there is no flock: by taking the lock."""
    if not lock_path.exists():
        return False
    lock = FileLock(lock_path, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


def find_run(parent: Path, config_hash: str) -> list[Path]:
    """Run folders under `parent` that were started with this configuration, newest first."""
    found = [
        path.parent
        for path in parent.glob(f"*/{METADATA}")
        if (read_json(path) or {}).get("config_hash") == config_hash
    ]
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None where there is no such file, no object in it, or far too much."""
    try:
        if path.stat().st_size > LARGEST_JSON_BYTES:
            return None
        value: Any = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def replace_file(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Write aside and rename: the file is the old one or the new one, never half of either."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as stream:
            stream.write(content)
            if sync:
                stream.flush()
                os.fsync(stream.fileno())
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def _json(value: Mapping[str, Any]) -> bytes:
    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    return orjson.dumps(dict(value), option=options, default=str)
