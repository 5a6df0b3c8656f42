"""Tasks of lm-evaluation-harness on a model in memory; by itself the harness's own command with our model.

python -m fettle.evaluation.lm_eval_tasks --model fettle --model_args pretrained=...,peft=... --tasks ...
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np
from loguru import logger

from fettle.errors import ConfigError, DataError, MissingExtraError
from fettle.evaluation.weights import tokenizer_digest
from fettle.evaluation.work import Prompts
from fettle.scoring.decoder import undisturbed
from fettle.train.model import load_tokenizer

if TYPE_CHECKING:
    from fettle.config import SamplingConfig
    from fettle.data.sequence import Sequence as TokenSequence
    from fettle.evaluation.cached_model import CachedModel
    from fettle.evaluation.lm_eval_model import Answerer, Scorer
    from fettle.evaluation.subject import Subject
    from fettle.scoring import Answer, Scores


def evaluate_tasks(
    model: Any,
    tokenizer: Any,
    tasks: Sequence[str],
    *,
    num_fewshot: int | None = None,
    limit: int | float | None = None,
    include_path: Path | Sequence[Path] | None = None,
    apply_chat_template: bool = False,
    batch_tokens: int | None = None,
    scorer: Scorer | None = None,
    answerer: Answerer | None = None,
    progress: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Results of tasks, groups and tags by name, as `lm_eval.simple_evaluate` returns them.

    `limit` is so many documents of each task, or their share where below 1; `include_path` holds tasks of
    one's own. `scorer` is asked for log-likelihoods instead of the engine, and `answerer` for text, such as
    those with a cache.
    `options` are further arguments of `simple_evaluate`. Mode and random state are left as they were.

    Raises MissingExtraError without lm_eval, ConfigError for an unknown task, DataError where the documents
    of one cannot be had or scored, ModelError where logits are not finite.
    """
    harness = _imported("lm_eval")
    lm_model = _imported("fettle.evaluation.lm_eval_model")
    folders = [include_path] if isinstance(include_path, Path) else list(include_path or ())
    with undisturbed(model), _random_state_kept(), _machine_described_once():
        lm = lm_model.FettleLM(
            model, tokenizer=deepcopy(tokenizer), batch_tokens=batch_tokens, scorer=scorer,
            answerer=answerer, progress=progress,
        )  # fmt: skip
        return harness.simple_evaluate(
            lm,
            tasks=list(tasks),
            num_fewshot=num_fewshot,
            limit=limit,
            apply_chat_template=apply_chat_template,
            task_manager=_known_tasks(list(tasks), folders),
            **options,
        )


def evaluate_subject(
    model: CachedModel, subject: Subject, tasks: Sequence[str], **options: Any
) -> dict[str, Any]:
    """The same for a checkpoint: its adapter is put on the base in memory, and log-likelihoods and texts that
    are in the cache are not run again. `options` and errors are those of `evaluate_tasks`."""
    loaded, tokenizer = model.model.use(subject), load_tokenizer(subject.tokenizer)
    digest = tokenizer_digest(tokenizer)

    def answers(prompts: Sequence[list[int]], settings: SamplingConfig) -> list[list[Answer]]:
        return model.answer(subject, Prompts(prompts, [], subject.tokenizer, digest), settings)[0]

    def scores(sequences: Sequence[TokenSequence]) -> Scores:
        return model.score(subject, sequences)[0]

    with _told_to_the_log():
        return evaluate_tasks(loaded, tokenizer, tasks, scorer=scores, answerer=answers, **options)


def _known_tasks(tasks: list[str], folders: list[Path]) -> Any:
    """An index of tasks that holds those asked for, whose errors say what to do."""
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"include_path {folder}: is no folder. It must hold the YAML files of tasks")
    manager: Any = _index(folders, own_only=True) if folders else None
    # A group may name tasks of the harness, and so needs them all.
    if manager is None or not set(tasks) <= set(manager.all_subtasks):
        manager = _index(folders, own_only=False)
    for name in tasks:
        if not manager.match_tasks([name]):
            raise ConfigError(
                f"tasks: '{name}' is unknown. List all with: lm_eval ls tasks; name a folder of your own "
                "with include_path"
            )
    load = manager.load

    def explained(names: list[str]) -> Any:
        try:
            return load(names)
        except OSError as error:
            first = str(error).strip().partition("\n")[0]
            raise DataError(
                f"tasks {', '.join(names)}: the documents cannot be read: {first}. Connect to the hub once, "
                "or give local files with dataset_kwargs.data_files"
            ) from error

    manager = copy(manager)
    manager.load = explained
    return manager


def _index(folders: list[Path], *, own_only: bool) -> Any:
    files = sorted(file for folder in folders for file in folder.rglob("*.yaml"))
    return _read_index(tuple(folders), own_only, tuple(file.stat().st_mtime_ns for file in files))


@lru_cache(maxsize=2)
def _read_index(folders: tuple[Path, ...], own_only: bool, stamp: tuple[int, ...]) -> Any:
    """Ten seconds for the harness's own 14,000 files: read once for all checkpoints."""
    manager: Any = _imported("lm_eval.tasks").TaskManager
    return manager(include_path=[str(folder) for folder in folders] or None, include_defaults=not own_only)


@contextmanager
def _told_to_the_log() -> Generator[None]:
    """The harness, its bars and the programs it starts write to standard error whatever it is told."""
    sys.stderr.flush()
    with TemporaryFile() as said:
        screen = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(screen, 2)
            os.close(screen)
            said.seek(0)
            for line in said.read().decode(errors="replace").replace("\r", "\n").splitlines():
                logger.debug("lm_eval: {}", line)


@contextmanager
def _random_state_kept() -> Generator[None]:
    """The harness seeds everything it draws from."""
    python, numbers = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)


@contextmanager
def _machine_described_once() -> Generator[None]:
    """With every evaluation the harness starts pip and others to describe the machine, for two seconds: once
    is enough for all checkpoints."""
    module: Any = import_module("torch.utils.collect_env")
    describe = module.get_pretty_env_info
    module.get_pretty_env_info = lambda: _described(describe)
    try:
        yield
    finally:
        module.get_pretty_env_info = describe


@lru_cache(maxsize=1)
def _described(describe: Callable[[], str]) -> str:
    return describe()


def _imported(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "lm_eval":
            raise
        raise MissingExtraError(
            "tasks of lm-evaluation-harness need lm_eval. Install it with: pip install 'fettle[lm-eval]'"
        ) from error


def main() -> None:
    """The command `lm_eval`, which knows `--model fettle` too."""
    _imported("fettle.evaluation.lm_eval_model")
    _imported("lm_eval.__main__").cli_evaluate()


if __name__ == "__main__":
    main()
