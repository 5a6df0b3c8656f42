"""From a configuration to a finished run: folder, data, model, resume, loop."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from loguru import logger

from fettle.config import (
    Config,
    TrainingConfig,
    check_files,
    config_differences,
    config_hash,
    config_warnings,
    dump_config,
    load_config,
    not_honoured,
)
from fettle.data.sequence import Sequence
from fettle.decide.early_stop import EarlyStopping
from fettle.errors import ConfigError, RunError
from fettle.runs import RunFolder, RunReader, configure_logging, find_run, latest_checkpoint
from fettle.runs.folder import replace_file
from fettle.runs.fresh_name import fresh_run_name
from fettle.runs.records import State
from fettle.train.backend import Backend
from fettle.train.control import ControlFile
from fettle.train.dataset import encode_chats, read_chats
from fettle.train.evaluation import FixedEvalSet
from fettle.train.lens_reader import LensReader
from fettle.train.loop import BUDGET, Loop
from fettle.train.model import load_tokenizer, require_train_extra
from fettle.train.notifier import Notifier
from fettle.train.order import BatchOrder
from fettle.train.pipeline import DoneStep
from fettle.train.predictions import Predictions
from fettle.train.provenance import process_facts
from fettle.train.recorder import Recorder
from fettle.train.retention import CheckpointRetention
from fettle.train.schedule import learning_rate_schedule
from fettle.train.state import Outcome

DONE: frozenset[str] = frozenset({"completed", "early_stopped"})


def train(
    config: Config,
    *,
    out: Path | None = None,
    runs: Path = Path("runs"),
    new: bool = False,
    progress: bool = False,
    log_level: str = "INFO",
    on_start: Callable[[int, int], None] | None = None,
    on_step: Callable[[DoneStep], None] | None = None,
    lenses: LensReader | None = None,
) -> Outcome:
    """Train by `config` into `out`, or into a folder of its own under `runs`.

    A run of the same configuration that was cut short goes on exactly where its
    newest whole checkpoint stands; a finished one is refused unless `new`. `lenses` is what the section of
    that name asks for: `LiveDrift.of(config.lenses)`.
    """
    check_files(config)
    reader = _lens_reader(config, lenses)
    open_backend = backend_opener(config)
    notifier = Notifier(config.notify)
    folder = choose_folder(config, out=out, runs=runs, new=new)
    with folder.lock():
        configure_logging(folder.log_path, level=log_level)
        control_file = ControlFile(folder.control_path)
        for warning in config_warnings(config):
            logger.warning("{}", warning)
        chats = read_chats(config)
        _same_data(folder, chats.provenance)
        tokenizer = load_tokenizer(config.model)
        encoded = encode_chats(chats, config, tokenizer, progress=progress)
        eval_set, training = encoded.fixed_eval, config.training
        predictions = fixed_predictions(config, eval_set, tokenizer)
        order = batch_order(training, encoded.train)
        backend = open_backend(tokenizer)
        recorder = Recorder(
            folder,
            early_stopping=_early_stopping(training),
            total_steps=order.total_steps,
            length_bins=config.patterns.length_bins,
            alerts=config.alerts,
            notifier=notifier,
            bill=backend.bill,
        )
        if backend.bill is not None:
            backend.bill.go_on(folder)
        done = restore(folder, backend, recorder) if training.resume_from_checkpoint else 0
        data = {**chats.provenance, "encoded": encoded.counts}
        _describe(folder, config, backend, data, encoded.patterns)
        recorder.start(
            step=done,
            steps_per_epoch=order.steps_per_epoch,
            epochs=training.epochs,
            learning_rate=training.learning_rate,
            leakage=chats.provenance.get("leakage"),
        )
        if reader is not None:
            reader.begin(backend.model, folder, done)
        if on_start is not None:
            on_start(done, order.total_steps)
        return Loop(
            config=training,
            backend=backend,
            sequences=encoded.train,
            fixed_eval=encoded.fixed_eval,
            order=order,
            learning_rate=learning_rate_schedule(
                training.lr_schedule,
                peak=training.learning_rate,
                warmup_ratio=training.warmup_ratio,
                total_steps=order.total_steps,
            ),
            recorder=recorder,
            done=done,
            provenance=_provenance(config, chats.provenance),
            on_step=on_step,
            predictions=predictions,
            on_saved=CheckpointRetention(folder, config.checkpoints, backend.forget).apply,
            control_file=control_file,
            lenses=reader,
        ).run()


def _lens_reader(config: Config, lenses: LensReader | None) -> LensReader | None:
    """Who reads the model; None where nobody does. Raises FettleError for lenses of another model."""
    if config.backend != "local":
        return None
    if lenses is not None:
        lenses.check(config.model)
    elif config.lenses is not None:
        raise ConfigError("lenses: give train(..., lenses=LiveDrift.of(config.lenses)), as fettle train does")
    return lenses


def choose_folder(config: Config, *, out: Path | None, runs: Path, new: bool) -> RunFolder:
    """The folder to train into: a fresh one, or that of the same configuration that was cut short.

    Raises RunError for a finished run, and for a folder of another configuration.
    """
    if out is not None:
        return _existing(out, config, new=new) if RunFolder.is_run(out) else _create(out, config)
    same = find_run(runs, config_hash(config))
    if same and not new and config.training.resume_from_checkpoint:
        return _existing(same[0], config, new=False)
    return _create(runs / fresh_run_name(config, lambda name: (runs / name).exists()), config)


def _existing(path: Path, config: Config, *, new: bool) -> RunFolder:
    if new:
        raise RunError(
            f"{path} holds a run already. Give --out another folder, or leave --new out to go on with it."
        )
    folder = RunFolder.open(path)
    differences = config_differences(load_config(folder.config_path), config)
    if differences:
        raise RunError(
            f"{path} was started with another configuration ({'; '.join(differences)}). "
            "Give --out another folder, or the configuration it was started with."
        )
    state = _state(path, config)
    if state in DONE:
        raise RunError(
            f"{path} is {state.replace('_', ' ')} already. See it with: fettle verdict {path}. "
            "To train again, give --new or --out another folder."
        )
    if not config.training.resume_from_checkpoint:
        raise RunError(
            f"{path} was cut short and training.resume_from_checkpoint is false. Give --out another folder."
        )
    return folder


def _state(path: Path, config: Config) -> State:
    """How a run stands; one that money ended was interrupted. Raises RunError where it gets no more."""
    reader = RunReader(path)
    state, ends = reader.state(), reader.records("end")
    if state != "early_stopped" or not ends or ends[-1].get("cause") != BUDGET:
        return state
    before, now = ends[-1].get("budget_usd"), config.tinker.budget if config.tinker else None
    if before is not None and now is not None and now <= before:
        raise RunError(
            f"{path} has spent its budget of ${before:,.2f}. To go on, give a higher tinker.budget. "
            f"See it with: fettle verdict {path}"
        )
    return "interrupted"


def _create(path: Path, config: Config) -> RunFolder:
    metadata = {"config_hash": config_hash(config), "created_at": datetime.now().astimezone().isoformat()}
    return RunFolder.create(path, config_yaml=_config_yaml(config), metadata=metadata)


def _config_yaml(config: Config) -> str:
    ignored = not_honoured(config)
    notes = "".join(f"# not honoured by {config.backend}: {key} ({why})\n" for key, why in ignored.items())
    return notes + dump_config(config)


def restore(folder: RunFolder, backend: Backend, recorder: Recorder) -> int:
    """Load the newest whole checkpoint into backend and recorder; the step it holds, 0 without one."""
    path, skipped = latest_checkpoint(folder.checkpoints_path)
    for line in skipped:
        logger.warning("{}", line)
    begun = folder.metrics_path.exists() and folder.metrics_path.stat().st_size > 0
    if path is None:
        if begun:
            logger.warning("{}: no whole checkpoint, so training starts again from step 0", folder.path.name)
            recorder.resume(0)
        return 0
    info = orjson.loads((path / "fettle.json").read_bytes())
    backend.load(path)
    recorder.load_state_dict(info["state"])
    recorder.last_checkpoint = path
    step = int(info["step"])
    recorder.resume(step)
    logger.info("going on from {}", path.name)
    return step


def _same_data(folder: RunFolder, provenance: dict[str, Any]) -> None:
    """Refuses to go on with files that changed under the same name."""
    before = folder.read_metadata().get("data", {})
    for key in ("train", "fixed_eval"):
        old, new = before.get(key), provenance.get(key)
        if old and new and old["fingerprint"] != new["fingerprint"]:
            raise RunError(
                f"{folder.path}: {new['path']} is not the file this run was started with "
                f"({old['fingerprint']} then, {new['fingerprint']} now). Give --out another folder."
            )


def _describe(
    folder: RunFolder, config: Config, backend: Backend, data: dict[str, Any], patterns: dict[str, Any]
) -> None:
    # What may change while a run goes on (the rules of `checkpoints`) is as of its last start.
    replace_file(folder.config_path, _config_yaml(config).encode())
    folder.write_metadata(
        {
            **folder.read_metadata(),
            **backend.provenance(),
            "data": data,
            "patterns": patterns,
            "seed": config.training.seed,
            **process_facts(),
            "git_commit": _git_commit(),
            "not_honoured": not_honoured(config),
        }
    )


def _provenance(config: Config, data: dict[str, Any]) -> dict[str, Any]:
    """What every checkpoint says of where it comes from, beside its run and step."""
    from fettle import __version__

    fingerprints = {key: data[key]["fingerprint"] for key in ("train", "fixed_eval") if data.get(key)}
    return {
        "config_hash": config_hash(config),
        "model": config.model,
        "data": fingerprints,
        "fettle": __version__,
    }


def _git_commit() -> str | None:
    """Commit of the working folder, where it is in a git checkout."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def backend_opener(config: Config) -> Callable[[Any], Backend]:
    """What makes the backend once the tokenizer is there. Raises now for what is missing or out of reach."""
    if config.backend == "tinker":
        from fettle.train.tinker.extra import require_tinker_extra

        require_tinker_extra()
        from fettle.train.tinker.backend import TinkerBackend
        from fettle.train.tinker.service import Service

        service = Service(config)
        return lambda tokenizer: TinkerBackend(config, service, tokenizer)
    require_train_extra()
    from fettle.train.local import LocalBackend

    return lambda tokenizer: LocalBackend(config, tokenizer)


def fixed_predictions(config: Config, eval_set: FixedEvalSet | None, tokenizer: Any) -> Predictions | None:
    """What is answered over the run; None without a held-out set."""
    if eval_set is None:
        return None
    return Predictions(eval_set, tokenizer, config.predictions, seed=config.training.seed)


def batch_order(training: TrainingConfig, sequences: list[Sequence]) -> BatchOrder:
    """Which sequences make up which step."""
    return BatchOrder(
        np.array([len(s) for s in sequences]),
        examples_per_step=training.batch_size * training.gradient_accumulation_steps,
        epochs=training.epochs,
        seed=training.seed,
        max_steps=training.max_steps,
        bucketed=training.length_buckets,
    )


def _early_stopping(training: TrainingConfig) -> EarlyStopping:
    return EarlyStopping(
        patience=training.early_stopping_patience,
        threshold=training.early_stopping_threshold or 0.0,
        relative=training.early_stopping_relative,
    )
