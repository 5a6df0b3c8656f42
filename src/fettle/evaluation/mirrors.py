"""The numbers of each checkpoint over its step, told to other tools by their own APIs as they are found."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from math import isfinite
from pathlib import Path
from time import time
from typing import Any, Protocol

from loguru import logger

from fettle.errors import MissingExtraError
from fettle.evaluation.results import SubjectResult, TaskResult

PROJECT = "fettle"
"""Where the environment names no project or experiment."""
SCALARS = re.compile(
    r"exact_match|cross_entropy|perplexity|expected_calibration_error|entropy|.+_pass_rate|.+_pass@\d+"
)


class Mirror(Protocol):
    """One evaluation as another tool shows it."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of the checkpoint of this step, by file and metric."""
        ...

    def close(self) -> None:
        """All has been told."""
        ...


class TensorBoard:
    """An event file in `tensorboard/` of the results."""

    def __init__(self, folder: Path) -> None:
        writer = import_module("tensorboard.summary.writer.event_file_writer")
        self._event: Any = import_module("tensorboard.compat.proto.event_pb2").Event
        self._summary: Any = import_module("tensorboard.compat.proto.summary_pb2").Summary
        self._writer: Any = writer.EventFileWriter(str(folder / "tensorboard"))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        found = [self._summary.Value(tag=key, simple_value=value) for key, value in values.items()]
        self._writer.add_event(self._event(wall_time=time(), step=step, summary=self._summary(value=found)))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WandB:
    """A run of Weights & Biases; WANDB_PROJECT and WANDB_MODE are its own."""

    def __init__(self, folder: Path) -> None:
        wandb: Any = import_module("wandb")
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT, name=folder.name, job_type="evaluation",
            config={"folder": str(folder)}, reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )  # fmt: skip
        # Checkpoints may come in any order, and its own steps only rise.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """A run of MLflow; MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME are its own."""

    def __init__(self, folder: Path) -> None:
        self._client: Any = import_module("mlflow").MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        known = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if known is None else known.experiment_id
        run = self._client.create_run(experiment, run_name=folder.name, tags={"folder": str(folder)})
        self._run = run.info.run_id

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            # Of signs, names may hold these.
            self._client.log_metric(self._run, re.sub(r"[^\w./ -]", "_", key), value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._run)


class Trackio:
    """A run of Trackio; TRACKIO_DIR and TRACKIO_SPACE_ID are its own."""

    def __init__(self, folder: Path) -> None:
        self._trackio: Any = import_module("trackio")
        self._run: Any = self._trackio.init(
            project=os.environ.get("TRACKIO_PROJECT") or PROJECT, name=folder.name,
            config={"folder": str(folder)}, embed=False, auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._trackio.finish()  # The run's own would be repeated when the process ends.


TOOLS: dict[str, Callable[[Path], Mirror]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
    "trackio": Trackio,
}


class Mirrors:
    """Those that were asked for. One that fails is left out from there on, with a warning: what is evaluated
    stands in the results, and no other tool may cost it."""

    def __init__(self, names: Sequence[str]) -> None:
        """Raises MissingExtraError where the package of one is not installed."""
        for name in names:
            try:
                import_module(name)
            except ImportError as error:
                cure = f"Install it with: pip install 'fettle[{name}]'"
                raise MissingExtraError(f"--mirror {name} needs {name}. {cure}") from error
        self._names = list(dict.fromkeys(names))
        self._open: dict[str, Mirror] = {}

    def tell(self, folder: Path, results: Sequence[SubjectResult | TaskResult]) -> None:
        """All results of one subject, whose files lie in a folder; nothing is drawn without a step."""
        step = results[0].subject.step if results else None
        values = {key: value for result in results for key, value in scalars(result).items()}
        if step is None or not values:
            return
        for name in list(self._names):
            with self._survived(name):
                if name not in self._open:
                    self._open[name] = TOOLS[name](folder)
                self._open[name].write(step, values)

    def close(self) -> None:
        """All has been told."""
        for name in list(self._open):
            with self._survived(name):
                self._open.pop(name).close()

    @contextmanager
    def _survived(self, name: str) -> Generator[None]:
        try:
            with redirect_stdout(sys.stderr):  # Some of them talk; there the results are printed.
                yield
        except Exception as error:  # noqa: BLE001 - each tool has errors of its own
            self._names.remove(name)
            self._open.pop(name, None)
            logger.warning("{} is told no more: {}: {}", name, type(error).__name__, error)


def scalars(result: SubjectResult | TaskResult) -> dict[str, float]:
    """What is drawn over steps, by `<file>/<metric>` or `<task>/<metric>`; only what was measured."""
    if isinstance(result, TaskResult):
        name, numbers = result.task, result.metrics
    else:
        name = result.data.stem
        numbers = {key: value for key, value in result.summary.items() if SCALARS.fullmatch(key)}
    return {f"{name}/{key}": value for key, value in numbers.items() if value is not None and isfinite(value)}
