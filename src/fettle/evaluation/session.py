"""Subjects evaluated one after another, on the same files and into one folder of results."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, overload

from loguru import logger

from fettle.config import EvaluationConfig, dump_values
from fettle.errors import DataError, ModelError
from fettle.evaluation.answer_rows import right_shares
from fettle.evaluation.cache import ScoreCache
from fettle.evaluation.cached_model import CachedModel
from fettle.evaluation.measurement import Measures, OnStage, Stage
from fettle.evaluation.metadata import cost, described, of_model, peak_memory
from fettle.evaluation.mirrors import Mirrors
from fettle.evaluation.results import Evaluation, Progress, SubjectResult, TaskResult
from fettle.evaluation.results_folder import ResultsFolder
from fettle.evaluation.samples import EncodedData, EvaluationData, read_evaluation_data
from fettle.evaluation.subject import EndpointSubject, Evaluated, Skipped, Subject
from fettle.evaluation.unencoded import UnencodedData
from fettle.evaluation.work import Work


class Session:
    """One evaluation under way. Raises DataError for data that cannot be used, RunError where results
    cannot be written, ConfigError or MissingExtraError for a checker that cannot be had."""

    def __init__(
        self,
        asked: Any,
        data: Sequence[Path],
        config: EvaluationConfig,
        *,
        out: Path,
        skipped: Sequence[Skipped] = (),
        cache: ScoreCache | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        """`asked` are plain values that say what is evaluated: the same of them go on in the same folder."""
        self.model = CachedModel(cache or ScoreCache(), config)
        self._config = config
        self._measures = Measures(self.model, config)
        self._files = [read_evaluation_data(path, config) for path in data]
        self._mirrors = Mirrors(config.mirrors)
        self._encode = _Encoder(config)
        self._on_progress = on_progress
        self._folder = _folder(out, asked, self._files, config)
        self.found = Evaluation(self._folder.path, [], list(skipped))
        self._uses_weights = config.endpoint is None

    @contextmanager
    def running(self) -> Generator[None]:
        """Keeps metadata.json and the log; gives the model's memory back at the end."""
        with described(self._folder, self._metadata), _logged(self._folder, "evaluation"):
            try:
                yield
            finally:
                self._mirrors.close()
                self.model.model.close()

    def evaluate(self, subject: Evaluated, number: int, subjects: int) -> list[SubjectResult]:
        """One subject on every file; [] where it is skipped with its reason."""
        tell = partial(_tell, self._on_progress, subject.name, number, subjects)
        results: list[SubjectResult] = []
        tasks: list[TaskResult] = []
        self._uses_weights |= isinstance(subject, Subject)
        self._forget(subject.name)
        with _logged(self._folder, subject.name):
            try:
                for file in self._files:
                    results.append(self._on_file(subject, file, tell))
                    self.found.results.append(results[-1])
                if isinstance(subject, Subject):
                    tasks = self._on_tasks(subject)
                    self.found.tasks.extend(tasks)
            except (ModelError, DataError) as error:
                self.skip(Skipped(subject.name, str(error)))
        self._folder.write_consolidated(self.found.rows())
        self._mirrors.tell(self._folder.path, [*results, *tasks])
        return results

    def skip(self, skipped: Skipped) -> None:
        """Note what cannot be evaluated."""
        logger.warning("{} is skipped: {}", skipped.name, skipped.reason)
        self.found.skipped.append(skipped)

    def spread(self, subjects: Sequence[Subject], workers: int, address: str | None) -> None:
        """Have workers run all models, so that afterwards everything is known; 0 of them: as many as fit."""
        from fettle.evaluation.parallel import spread, workers_that_fit

        works: list[Work] = []
        for subject in subjects:
            with suppress(ModelError, DataError):  # It is skipped with the reason when its turn comes.
                for file in self._files:
                    works += self._measures.works(subject, self._encode(subject, file))
        config = self._config
        workers = workers or workers_that_fit([subject.model for subject in subjects], config.device)
        logger.info("{} pieces of work for {} workers", len(works), workers)
        spread(
            works,
            self.model.cache,
            workers,
            dtype=config.dtype,
            device=config.device,
            address=address,
            on_done=partial(_tell, self._on_progress, f"{workers} workers", 1, 1, "pieces"),
        )

    def _metadata(self, seconds: float) -> dict[str, Any]:
        """What metadata.json says so far; the results have it as well."""
        asked, found = self._measures.endpoint, self.found
        spent = None if asked is None else asked.spent()
        judges = self._measures.judges()
        price = self._config.price_per_hour
        found.metadata.update(
            {
                **of_model(self.model, self._files),
                "skipped": [asdict(skipped) for skipped in found.skipped],
                "endpoint": spent,
                "judges": judges,
                "cost": cost(
                    seconds if self._uses_weights else None,
                    price,
                    [*([] if spent is None else [spent]), *judges.values()],
                ),
            }
        )
        return found.metadata

    def _forget(self, name: str) -> None:
        """Results of the same name: another checkpoint has taken the place of theirs."""
        found = self.found
        found.results[:] = [result for result in found.results if result.subject.name != name]
        found.tasks[:] = [result for result in found.tasks if result.subject.name != name]

    def _on_file(self, subject: Evaluated, file: EvaluationData, on_stage: OnStage) -> SubjectResult:
        found = self._measures.measure(subject, self._encode(subject, file), on_stage)
        here = isinstance(subject, Subject)
        summary = {**found.summary, "peak_memory_bytes": peak_memory() if here else None}
        name = f"{subject.name}/{file.path.stem}" if len(self._files) > 1 else subject.name
        self._folder.write_result(name, summary, found.rows, found.texts)
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
        shares = {checker: right_shares(found.rows, checker) for checker in self._config.checkers}
        return SubjectResult(subject, file.path, summary, found.samples, shares)

    def _on_tasks(self, subject: Subject) -> list[TaskResult]:
        """Tasks of lm-evaluation-harness, where they were asked for."""
        if self._config.tasks is None:
            return []
        from fettle.evaluation.lm_eval_tasks import evaluate_subject

        asked = self._config.tasks
        found = evaluate_subject(
            self.model,
            subject,
            asked.names,
            num_fewshot=asked.num_fewshot,
            limit=asked.limit,
            include_path=None if asked.include_path is None else Path(asked.include_path),
            apply_chat_template=asked.apply_chat_template,
            log_samples=False,
        )
        self._folder.write_tasks(subject.name, found)
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


class _Encoder:
    """Samples as tokens, once a tokenizer."""

    def __init__(self, config: EvaluationConfig) -> None:
        self._config = config
        self._known: dict[tuple[str, Path], EncodedData] = {}

    @overload
    def __call__(self, subject: Subject, file: EvaluationData) -> EncodedData: ...

    @overload
    def __call__(self, subject: EndpointSubject, file: EvaluationData) -> EncodedData | UnencodedData: ...

    def __call__(self, subject: Evaluated, file: EvaluationData) -> EncodedData | UnencodedData:
        if subject.tokenizer is None:
            return UnencodedData(file, self._config)
        key = (subject.tokenizer, file.path)
        if key not in self._known:
            self._known[key] = EncodedData(file, subject.tokenizer, self._config)
        return self._known[key]


def _folder(
    out: Path, asked: Any, files: Sequence[EvaluationData], config: EvaluationConfig
) -> ResultsFolder:
    """That of the same evaluation where it was cut short, a fresh one otherwise."""
    named = {"data": [str(file.path) for file in files], "subjects": asked}
    text = dump_values({**named, **config.model_dump(mode="json")})
    names = [file.path.stem for file in files] or (config.tasks.names if config.tasks else ["nothing"])
    more = f"+{len(names) - 1}" if len(names) > 1 else ""
    return ResultsFolder.unfinished(out, text) or ResultsFolder.create(out, names[0] + more, text)


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
