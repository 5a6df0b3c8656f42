"""A run folder taken for writing, and its recorder set going, whoever's loop it is."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loguru import logger

from fettle.errors import RunError
from fettle.runs import RunFolder
from fettle.runs.folder import replace_file
from fettle.runs.logs import FILE_FORMAT, FoldingSink
from fettle.runs.records import State
from fettle.train.recorder import Recorder

# Runs this process writes. A trainer that raised never says that it ended: the next one of
# the same folder takes over instead of finding its own process in the way.
_held: dict[Path, ExitStack] = {}


def claim_folder(
    path: Path, *, config_yaml: str, metadata: Mapping[str, Any], goes_on: bool, opened: ExitStack
) -> RunFolder:
    """Create or open the run folder at `path`, describe it, and hold it until `opened` closes.

    Raises RunError where it cannot be written, where another process holds it, and where the run
    `goes_on` with other held-out chats than it was started with.
    """
    path = path.absolute()
    if path in _held:
        _held.pop(path).close()
    if RunFolder(path).metadata_path.is_file():
        folder = RunFolder.open(path)
        if goes_on:
            _same_fixed_eval(folder, metadata)
        opened.enter_context(folder.lock())
        replace_file(folder.config_path, config_yaml.encode())
        folder.write_metadata({**folder.read_metadata(), **metadata})
    else:
        folder = RunFolder.create(path, config_yaml=config_yaml, metadata=metadata)
        opened.enter_context(folder.lock())
    _held[path] = opened
    opened.callback(_held.pop, path, None)
    stream = folder.log_path.open("a", encoding="utf-8", errors="replace")
    sink = logger.add(FoldingSink(stream, closes=True), level="DEBUG", format=FILE_FORMAT, filter="fettle")
    opened.callback(logger.remove, sink)
    return folder


def start_recorder(
    recorder: Recorder,
    *,
    step: int,
    counters: Mapping[str, Any] | None,
    checkpoint: Path | None,
    **fields: Any,
) -> None:
    """Begin after `step`, with the counters of its checkpoint where these are known.

    `fields` go into the record of the start. Rows of the folder past `step` no longer count.
    """
    metrics = recorder.folder.metrics_path
    begun = metrics.is_file() and metrics.stat().st_size > 0
    if counters:
        recorder.load_state_dict(counters)
    elif step:
        logger.warning("the checkpoint of step {} holds no counters of fettle: they start anew", step)
    if checkpoint is not None and checkpoint.is_dir():
        recorder.last_checkpoint = checkpoint
    if begun and not step:
        path = recorder.folder.path
        logger.warning("{}: training starts again from step 0; its earlier rows no longer count", path)
    if step or begun:
        recorder.resume(step)
    recorder.start(step=step, **fields)


def ended_by(error: BaseException, step: int) -> tuple[State, str]:
    """How a run stands that this exception ended, and why."""
    name = type(error).__name__
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return "interrupted", f"{name} at step {step}"
    return "failed", f"{name}: {error}"


def _same_fixed_eval(folder: RunFolder, metadata: Mapping[str, Any]) -> None:
    before: dict[str, Any] = folder.read_metadata().get("data", {}).get("fixed_eval") or {}
    now: dict[str, Any] = metadata.get("data", {}).get("fixed_eval") or {}
    if before and now and before["fingerprint"] != now["fingerprint"]:
        raise RunError(
            f"{folder.path}: {now['path']} is not the file this run was started with. "
            "Give out=... another folder."
        )
