"""A run folder for a training loop written by hand."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from fettle.config import AlertsConfig, NotifyConfig, check_section
from fettle.decide.early_stop import EarlyStopping
from fettle.errors import RunError
from fettle.runs.checkpoints import INFO
from fettle.runs.folder import read_json
from fettle.runs.json_object import mapping
from fettle.runs.records import State
from fettle.train.control import ControlFile
from fettle.train.held_out import HeldOut
from fettle.train.live_run import claim_folder, ended_by, start_recorder
from fettle.train.loop_recorder import LoopRecorder
from fettle.train.notifier import Notifier
from fettle.train.provenance import run_metadata
from fettle.train.trainer_arguments import plain


@contextmanager
def record(
    out: str | Path,
    *,
    config: Mapping[str, Any] | None = None,
    held_out: HeldOut | None = None,
    total_steps: int | None = None,
    learning_rate: float | None = None,
    early_stopping_patience: int = 5,
    early_stopping_threshold: float = 0.01,
    early_stopping_relative: float | None = None,
    alerts: Mapping[str, Any] | None = None,
    notify: Mapping[str, Any] | None = None,
    resume_from: str | Path | None = None,
) -> Generator[LoopRecorder]:
    """Record the training inside the block into the run folder `out`.

    The recorder is told of each optimizer step (`step`), of each fixed eval (`evaluation`, which
    says whether to stop) and saves checkpoints with their score (`checkpoint`). After each step, ask
    whether to save (`should_save`) and whether to end (`should_stop`): the page of `fettle serve` may
    ask for both, and for a pause, through which `step` sleeps.

    Leaving the block ends the run: completed, early stopped, interrupted (Ctrl-C, `sys.exit`, a stop
    from the page, or fewer than `total_steps`), or failed (an exception, which goes on its way, or a
    loss that was no number).

    `config` is kept in config.yaml. `resume_from` is a checkpoint of this run: its counters come
    back, `last_step` of the recorder is its step, and later rows of the folder no longer count.
    Without it a folder that holds rows is begun anew. In data-parallel training, enter it on the
    main process only. Raises RunError where the folder cannot be written or continued, ConfigError
    for wrong keys of `alerts` or `notify`.
    """
    stopping = EarlyStopping(early_stopping_patience, early_stopping_threshold, early_stopping_relative)
    thresholds = check_section(AlertsConfig, alerts, "record(alerts=...)")
    notifier = Notifier(check_section(NotifyConfig, notify, "record(notify=...)"))
    checkpoint = None if resume_from is None else Path(resume_from)
    counters = None if checkpoint is None else _counters(checkpoint)
    settings: dict[str, Any] = {
        "early_stopping_patience": early_stopping_patience,
        "early_stopping_threshold": early_stopping_threshold,
        "early_stopping_relative": early_stopping_relative,
        "alerts": dict(alerts or {}),
        "notify": dict(notify or {}),
    }
    data = {} if held_out is None else {"fixed_eval": held_out.description}
    with ExitStack() as opened:
        folder = claim_folder(
            Path(out),
            config_yaml=_config_yaml(settings, config),
            metadata=run_metadata("loop", data=data),
            goes_on=counters is not None,
            opened=opened,
        )
        requests = ControlFile(folder.control_path)
        recorder = LoopRecorder(
            folder, early_stopping=stopping, total_steps=total_steps, alerts=thresholds, notifier=notifier
        )
        recorder.heed(requests)
        step = 0 if counters is None else int(counters["step"])
        start_recorder(
            recorder, step=step, counters=counters, checkpoint=checkpoint, learning_rate=learning_rate
        )
        try:
            yield recorder
        except BaseException as error:
            _end(recorder, *ended_by(error, recorder.last_step))
            raise
        _end(recorder, *_outcome(recorder))


def _outcome(recorder: LoopRecorder) -> tuple[State, str]:
    step, total = recorder.last_step, recorder.total_steps
    if not recorder.finite:
        return "failed", f"Loss is not a number at step {step}"
    if total is not None and step >= total:
        return "completed", f"all {total} steps are done"
    if recorder.stopped_on_request:
        return "interrupted", f"stopped on request at step {step}" + ("" if total is None else f" of {total}")
    if recorder.should_stop:
        return "early_stopped", recorder.early_stopping.reason or ""
    if total is None:
        return "completed", f"the loop ended at step {step}"
    return "interrupted", f"the loop ended at step {step} of {total}"


def _end(recorder: LoopRecorder, state: State, reason: str) -> None:
    recorder.end(state, step=recorder.last_step, reason=reason)


def _counters(checkpoint: Path) -> dict[str, Any]:
    """What `Recorder.state_dict` gave when the checkpoint was saved."""
    state: Any = (read_json(checkpoint / INFO) or {}).get("state")
    if not isinstance(state, dict):
        raise RunError(
            f"{checkpoint}: {INFO} with the counters of a run is not there. "
            "Give resume_from=... a checkpoint that the recorder saved."
        )
    return mapping(state)


def _config_yaml(settings: dict[str, Any], config: Mapping[str, Any] | None) -> str:
    resolved = {"backend": "loop", "fettle": settings, "config": plain(dict(config or {}))}
    return yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True)
