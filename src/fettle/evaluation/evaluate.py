"""`evaluate`: every checkpoint on the same samples, each sample of each at most once."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from loguru import logger

from fettle.config import EvaluationConfig, dump_values
from fettle.errors import DataError, ModelError
from fettle.evaluation.cache import ScoreCache
from fettle.evaluation.cached_model import CachedModel
from fettle.evaluation.measurement import Measures, OnStage, Stage
from fettle.evaluation.results_folder import ResultsFolder
from fettle.evaluation.samples import EncodedData, EvaluationData, read_evaluation_data
from fettle.evaluation.subject import Skipped, Subject
from fettle.evaluation.work import Work
from fettle.runs.records import SampleResults


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an evaluation is."""

    subject: str
    number: int
    """Of this one, from 1."""
    subjects: int
    stage: Stage
    """What is under way: tokens are scored, answers generated, choices ranked, or checks made."""
    done: int
    total: int
    """Of this stage; what was known is left out."""


@dataclass(frozen=True, slots=True)
class SubjectResult:
    """What came out for one subject on one file of samples."""

    subject: Subject
    data: Path
    summary: dict[str, Any]
    """As in summary.json."""
    samples: SampleResults = field(repr=False)


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What one task of lm-evaluation-harness gave for one subject."""

    subject: Subject
    task: str
    metrics: dict[str, float]
    """By name; the standard error of `acc` is `acc_stderr`. Another filter than none stands in brackets."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All results, in the order of the subjects."""

    folder: Path
    results: list[SubjectResult]
    skipped: list[Skipped]
    tasks: list[TaskResult] = field(default_factory=list[TaskResult])

    def rows(self) -> list[dict[str, Any]]:
        """One row a subject and file, then one a subject and task, as in consolidated_metrics.csv."""
        of_tasks = [
            {"name": found.subject.name, "step": found.subject.step, "data": found.task, **found.metrics}
            for found in self.tasks
        ]
        return [
            {
                "name": result.subject.name,
                "step": result.subject.step,
                "data": result.data.name,
                **{k: v for k, v in result.summary.items() if not isinstance(v, (dict, list))},
            }
            for result in self.results
        ] + of_tasks

    def to_pandas(self) -> Any:
        """The same as a pandas DataFrame."""
        from pandas import DataFrame

        return DataFrame(self.rows())


def evaluate(
    subjects: Sequence[Subject],
    data: Sequence[Path],
    config: EvaluationConfig,
    *,
    out: Path = Path("eval_runs"),
    skipped: Sequence[Skipped] = (),
    cache: ScoreCache | None = None,
    parallel: int | None = None,
    ray_address: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Evaluation:
    """Score all subjects on all files of held-out chats, and have them answer where that was asked for.

    What is in the cache is not run again, and where everything is, no model is loaded. A subject that
    cannot be evaluated is skipped with its reason; the others go on. The same call goes on with a folder
    that was cut short. With `parallel` so many workers of Ray (0: as many as the memory has room for) run
    the models first, on this machine or on the cluster at `ray_address`. Raises DataError for data that
    cannot be used, RunError where results cannot be written.
    """
    model = CachedModel(cache or ScoreCache(), config)
    measures = Measures(model, config)
    files = [read_evaluation_data(path, config) for path in data]
    folder = _folder(out, subjects, files, config)
    results: list[SubjectResult] = []
    tasks: list[TaskResult] = []
    left_out = list(skipped)
    with _described(folder, model, files, left_out), _logged(folder, "evaluation"):
        encode = _Encoder(config, several_files=len(files) > 1)
        if parallel is not None or ray_address is not None:
            _spread(subjects, files, measures, model, encode, parallel or 0, ray_address, on_progress)
        for number, subject in enumerate(subjects, 1):
            tell = partial(_tell, on_progress, subject.name, number, len(subjects))
            with _logged(folder, subject.name):
                try:
                    results += [_evaluate(subject, file, folder, measures, encode, tell) for file in files]
                    tasks += _run_tasks(subject, folder, model, config)
                except (ModelError, DataError) as error:
                    logger.warning("{} is skipped: {}", subject.name, error)
                    left_out.append(Skipped(subject.name, str(error)))
            folder.write_consolidated(Evaluation(folder.path, results, [], tasks).rows())
    return Evaluation(folder.path, results, left_out, tasks)


def _evaluate(
    subject: Subject, file: EvaluationData, folder: ResultsFolder, measures: Measures, encode: _Encoder,
    on_stage: OnStage,
) -> SubjectResult:  # fmt: skip
    found = measures.measure(subject, encode(subject, file), on_stage)
    summary = {**found.summary, "peak_memory_bytes": _peak_memory()}
    name = f"{subject.name}/{file.path.stem}" if encode.several_files else subject.name
    folder.write_result(name, summary, found.rows, found.texts)
    em, ce = summary["exact_match"], summary["cross_entropy"]
    logger.info(
        "{} on {}: EM {}  CE {}  ({} of {} samples run, {:.1f} s)",
        subject.name,
        file.path.name,
        "not measured" if em is None else f"{em:.1%}",
        "not measured" if ce is None else f"{ce:.4f}",
        summary["samples_run"],
        len(found.rows),
        summary["seconds"],
    )
    return SubjectResult(subject, file.path, summary, found.samples)


def _run_tasks(
    subject: Subject, folder: ResultsFolder, model: CachedModel, config: EvaluationConfig
) -> list[TaskResult]:
    """Tasks of lm-evaluation-harness, where they were asked for."""
    if config.tasks is None:
        return []
    from fettle.evaluation.lm_eval_tasks import evaluate_subject

    asked = config.tasks
    found = evaluate_subject(
        model,
        subject,
        asked.names,
        num_fewshot=asked.num_fewshot,
        limit=asked.limit,
        include_path=None if asked.include_path is None else Path(asked.include_path),
        apply_chat_template=asked.apply_chat_template,
        log_samples=False,
    )
    folder.write_tasks(subject.name, found)
    results = [
        TaskResult(subject, task, named_metrics(metrics)) for task, metrics in found["results"].items()
    ]
    for result in results:
        logger.info("{} on {}: {}", subject.name, result.task, result.metrics)
    return results


def named_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a task as the harness gives them, by plainer names: `acc,none` is `acc`."""
    named: dict[str, float] = {}
    for key, value in metrics.items():
        metric, _, filter = key.partition(",")
        if filter and isinstance(value, (int, float)):
            named[metric if filter == "none" else f"{metric} ({filter})"] = float(value)
    return named


def _spread(
    subjects: Sequence[Subject],
    files: Sequence[EvaluationData],
    measures: Measures,
    model: CachedModel,
    encode: _Encoder,
    parallel: int,
    address: str | None,
    on_progress: Callable[[Progress], None] | None,
) -> None:
    """Have workers run all models, so that afterwards everything is known."""
    from fettle.evaluation.parallel import spread, workers_that_fit

    works: list[Work] = []
    for subject in subjects:
        with suppress(ModelError, DataError):  # It is skipped with the reason when its turn comes.
            for file in files:
                works += measures.works(subject, encode(subject, file))
    workers = parallel or workers_that_fit([subject.model for subject in subjects], model.config.device)
    logger.info("{} pieces of work for {} workers", len(works), workers)
    spread(
        works,
        model.cache,
        workers,
        dtype=model.config.dtype,
        device=model.config.device,
        address=address,
        on_done=partial(_tell, on_progress, f"{workers} workers", 1, 1, "pieces"),
    )


class _Encoder:
    """Samples as tokens, once a tokenizer."""

    def __init__(self, config: EvaluationConfig, *, several_files: bool) -> None:
        self.several_files = several_files
        self._config = config
        self._known: dict[tuple[str, Path], EncodedData] = {}

    def __call__(self, subject: Subject, file: EvaluationData) -> EncodedData:
        key = (subject.tokenizer, file.path)
        if key not in self._known:
            self._known[key] = EncodedData(file, subject.tokenizer, self._config)
        return self._known[key]


def _folder(
    out: Path, subjects: Sequence[Subject], files: Sequence[EvaluationData], config: EvaluationConfig
) -> ResultsFolder:
    """That of the same evaluation where it was cut short, a fresh one otherwise."""
    asked = {
        "data": [str(file.path) for file in files],
        "subjects": [
            {"name": s.name, "model": s.model, "adapter": None if s.adapter is None else str(s.adapter)}
            for s in subjects
        ],
    }
    text = dump_values({**asked, **config.model_dump(mode="json")})
    names = [file.path.stem for file in files] or (config.tasks.names if config.tasks else ["nothing"])
    more = f"+{len(names) - 1}" if len(names) > 1 else ""
    return ResultsFolder.unfinished(out, text) or ResultsFolder.create(out, names[0] + more, text)


@contextmanager
def _described(
    folder: ResultsFolder, model: CachedModel, files: Sequence[EvaluationData], skipped: Sequence[Skipped]
) -> Generator[None]:
    """metadata.json from the beginning to the end, however it ends."""
    began, started_at = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")

    def write(state: str) -> None:
        folder.write_metadata(
            {
                "state": state,
                "started_at": started_at,
                "seconds": time.perf_counter() - began,
                "data": [
                    {
                        "path": str(f.path),
                        "fingerprint": f.fingerprint,
                        "samples": len(f.examples),
                        "of": f.total,
                    }
                    for f in files
                ],
                "weights": model.known_weights,
                "skipped": [asdict(s) for s in skipped],
                "device": str(model.model.device),
                "precision": model.model.precision,
                "models_loaded": model.model.loads,
                "cache": {
                    "path": str(model.cache.path),
                    "hits": model.cache.hits,
                    "misses": model.cache.misses,
                },
                "peak_memory_bytes": _peak_memory(),
                "versions": {name: version(name) for name in ("fettle", "torch", "transformers", "peft")},
            }
        )

    state = "interrupted"
    write("running")
    try:
        yield
        state = "completed"
    finally:
        write(state)
        model.model.close()


@contextmanager
def _logged(folder: ResultsFolder, name: str) -> Generator[None]:
    """What is logged meanwhile goes into a log of its own as well."""
    sink = logger.add(folder.log_path(name), level="DEBUG")
    try:
        yield
    finally:
        logger.remove(sink)


def _tell(
    on_progress: Callable[[Progress], None] | None, name: str, number: int, of: int,
    stage: Stage, done: int, total: int,
) -> None:  # fmt: skip
    if on_progress is not None:
        on_progress(Progress(name, number, of, stage, done, total))


def _peak_memory() -> int:
    """Bytes: of the GPU where there is one, else the largest this process was."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
