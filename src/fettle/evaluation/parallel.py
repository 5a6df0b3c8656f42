"""Work for models spread over processes and machines by Ray; what comes back goes into the cache.

Only the work is spread. What is made of the results is made in one place, from the cache, whether one
process filled it or a cluster did: the numbers cannot differ.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from loguru import logger

from fettle.errors import FettleError, MissingExtraError, RunError
from fettle.evaluation.cache import ScoreCache
from fettle.evaluation.loaded_model import LoadedModel
from fettle.evaluation.weights import local_folder, weight_files
from fettle.evaluation.work import Items, Work
from fettle.scoring.memory import free_host_bytes

# A worker that dies takes its piece of work along; another is started, and the piece is run again.
MOST_RESTARTS = 3
WORKER_BYTES = 700 << 20
"""Of a process with torch and Transformers, before any weights."""


class Worker:
    """A process with a model of its own; adapters are swapped on it."""

    def __init__(self, dtype: str, device: str, threads: int) -> None:
        import torch

        if device == "cpu" or not torch.cuda.is_available():
            torch.set_num_threads(threads)
        self._model = LoadedModel(dtype, device)

    def run(self, work: Work) -> Items | str:
        """What came out, or why nothing could."""
        try:
            return [item for items in work.run(self._model) for item in items]
        except FettleError as error:
            return str(error)


def spread(
    works: Sequence[Work],
    cache: ScoreCache,
    workers: int,
    *,
    dtype: str = "auto",
    device: str = "auto",
    address: str | None = None,
    on_done: Callable[[int, int], None] | None = None,
) -> None:
    """Run all works on so many workers and keep what comes back in the cache as soon as it comes.

    `address` is that of a Ray cluster; None starts Ray on this machine for as long as it takes. A piece of
    work that fails is left for the caller, who meets the same error. Raises MissingExtraError without Ray,
    RunError where workers keep dying.
    """
    if not works:
        return
    workers = min(workers, len(works))
    with _ray(address, workers) as ray:
        threads = max(1, (os.cpu_count() or 1) // workers) if address is None else 1
        gpus = _gpus_a_worker(workers) if address is None and device in ("auto", "cuda") else 0
        remote = ray.remote(
            num_cpus=1, num_gpus=gpus, max_restarts=MOST_RESTARTS, max_task_retries=MOST_RESTARTS
        )(Worker)
        pool = [remote.remote(dtype, device, threads) for _ in range(workers)]
        # Large pieces first: the last ones to end are then small.
        waiting = sorted(works, key=lambda work: -work.size)
        busy: dict[Any, Any] = {}
        done = 0
        while waiting or busy:
            free = [actor for actor in pool if actor not in busy.values()]
            for actor in free[: len(waiting)]:
                busy[actor.run.remote(waiting.pop(0))] = actor
            ready, _ = ray.wait(list(busy), num_returns=1)
            for reference in ready:
                del busy[reference]
                _keep(ray, reference, cache)
                done += 1
                if on_done is not None:
                    on_done(done, len(works))


def _keep(ray: Any, reference: Any, cache: ScoreCache) -> None:
    try:
        found: Items | str = ray.get(reference)
    except ray.exceptions.RayActorError as error:
        raise RunError(
            f"a worker died {MOST_RESTARTS + 1} times over the same work; what was done is kept. "
            "Use fewer workers (--parallel), or a smaller --batch-tokens"
        ) from error
    if isinstance(found, str):
        logger.warning("a worker could not do its piece: {}", found)
    else:
        cache.put(found)


def workers_that_fit(models: Sequence[str], device: str = "auto") -> int:
    """How many workers the memory of this machine has room for, each with the largest of the models.

    On a CPU at most one a core.
    """
    largest = max(sum(f.stat().st_size for f in weight_files(local_folder(model))) for model in models)
    import torch

    if device in ("auto", "cuda") and torch.cuda.is_available():
        free = sum(torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count()))
        # As much again for activations and the keys and values of answers.
        return max(1, free // (2 * largest + WORKER_BYTES))
    # On a CPU weights are float32 in memory, whatever they are on disk.
    fitting = free_host_bytes() // (2 * largest + WORKER_BYTES)
    return max(1, min(os.cpu_count() or 1, fitting))


def _gpus_a_worker(workers: int) -> float:
    import torch

    return min(1.0, torch.cuda.device_count() / workers) if torch.cuda.is_available() else 0


def _reach(address: str) -> None:
    """Ray itself waits for minutes before it says that nobody is there. Raises RunError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return  # `auto`: the cluster that this machine is part of.
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise RunError(
            f"--ray-address {address}: nobody answers there ({error}). Is the cluster up?"
        ) from error


@contextmanager
def _ray(address: str | None, workers: int) -> Generator[Any]:
    """Ray, connected; one that was started here ends with the work."""
    try:
        ray: Any = import_module("ray")
    except ImportError as error:
        cure = "Install it with: pip install 'fettle[scale]'"
        raise MissingExtraError(f"--parallel needs Ray. {cure}") from error
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's own is 15: beside anything else that computes, its workers stand still.
    os.environ.setdefault("RAY_worker_niceness", "0")
    own = not ray.is_initialized()
    if own:
        if address is not None:
            _reach(address)
        where: dict[str, Any] = (
            {"address": address} if address is not None else {"num_cpus": workers, "include_dashboard": False}
        )
        # Workers import the fettle that this process runs.
        places = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, places))}}
        try:
            ray.init(log_to_driver=False, logging_level="ERROR", runtime_env=environment, **where)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise RunError(f"Ray at {address or 'this machine'} does not answer: {error}") from error
    try:
        yield ray
    finally:
        if own:
            ray.shutdown()
