"""The public face for programs: open a run, read its columns, ask for its verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from loguru import logger

from fettle.errors import ConfigError, DataError
from fettle.runs import RunFolder, RunReader
from fettle.runs.control import ask_trainer
from fettle.runs.discover import file_stamp
from fettle.runs.json_object import mapping
from fettle.runs.records import LIVE

# What judges is loaded by what judges: a curve is drawn without, a fifth of a second sooner.
if TYPE_CHECKING:
    from fettle.config import AlertsConfig, EvaluationConfig
    from fettle.decide import Evidence, Verdict
    from fettle.evaluation.results import Evaluation, Progress
    from fettle.evaluation.subject import Skipped, Subject

LATEST = 1000
"""Records that tell the usual time of a step."""
# Rows of these types alone change no verdict, and they come all the time.
FREQUENT = frozenset({"train", "system", "layers"})


class Run(RunReader):
    """Any run on disk: fettle's, or that of another tool (see docs/other-tools.md)."""

    _known_thresholds: tuple[Any, AlertsConfig] | None = None
    """With the stamp of the file that they are of."""

    def evidence(self) -> Evidence:
        """Everything the verdict looks at."""
        from fettle.decide import Evidence

        stops, ends, layers = self.records("early_stop"), self.records("end"), self.layers()
        return Evidence(
            name=self.name,
            state=self.state(),
            evals=self.evals(),
            checkpoints=self.checkpoints(),
            train=self.columns("train"),
            early_stop=stops[-1] if stops else None,
            end=ends[-1] if ends else None,
            alerts=self.alerts(),
            config=self.config(),
            metadata=self.metadata(),
            layers=layers[-1] if layers else None,
            concepts=self.drift(),
        )

    def alerts(self, now: float | None = None) -> list[Mapping[str, Any]]:
        """Alerts that are not resolved: those its trainer logged, and those that a reader finds."""
        from fettle.decide.alerts import active_alerts

        return [*active_alerts(self.records("alert")), *self.alerts_found(now)]

    def alerts_found(self, now: float | None = None) -> list[Mapping[str, Any]]:
        """Open alerts that no trainer can log: checkpoints that are worse on a watched evaluation, and
        `stalled_run` by the time `now` (Unix seconds, by default the clock's) of a run whose trainer lives.
        """
        from fettle.decide.alerts import evaluation_regression, stalled_run

        evaluated = self.evaluations()
        worse = evaluation_regression(evaluated, self._thresholds()) if evaluated else None
        found: list[Mapping[str, Any]] = [] if worse is None else [worse.fields()]
        if self.state() != "running":
            return found
        now, thresholds = time() if now is None else now, self._thresholds()
        if now - self._last_sign() <= thresholds.stalled_run_seconds:
            return found  # No silence this short is a stall: asked twice a second, it must cost nothing.
        stalled = stalled_run(self._latest(), now, thresholds)
        return found if stalled is None else [*found, stalled.fields()]

    def stop_where_worse(self) -> None:
        """Ask the trainer to stop where a watched evaluation found a checkpoint worse than one before it."""
        from fettle.decide.alerts import EvaluationRegression

        worse = [a for a in self.alerts_found() if a.get("category") == EvaluationRegression.category]
        if not worse or self.folder is None or self.refusal() is not None:
            return
        logger.warning("the trainer is asked to stop: {}", worse[0].get("message"))
        ask_trainer(self.folder.control_path, "stop")

    def evidence_stamp(self) -> tuple[Any, ...]:
        """Equal as long as a verdict rests on the same evidence."""
        counts = tuple(sorted((type, n) for type, n in self.counts().items() if type not in FREQUENT))
        # What an alert counts may grow by the second; that it is there, and how serious, is evidence.
        alerts = tuple((a.get("category"), a.get("level"), a.get("first_step")) for a in self.alerts())
        told = (self.segment, counts, self.state(), alerts, *self.problems)
        return (*told, self.checkpoint_stamp(), self.train_reaches_last_eval())

    def train_reaches_last_eval(self) -> bool:
        """Whether train loss was logged after the last eval: later rows tell nothing about any eval."""
        steps, evals = self.columns("train").get("step"), self.columns("fixed_eval").get("step")
        if steps is None or evals is None or not steps.size or not evals.size:
            return False
        return bool(steps[-1] > evals[-1])

    def refusal(self) -> str | None:
        """Why nobody can be asked to stop, pause or save a checkpoint; None where its trainer can."""
        if self.folder is None:
            return (
                f"the run was written by another tool ({self.kind}): no trainer of fettle reads control.json"
            )
        state = self.state()
        if state in LIVE:
            return None
        return f"the run is {state}: no trainer of fettle runs that could be asked"

    def _last_sign(self) -> float:
        """Time of the last record that shows a living trainer; -inf where none tells."""
        return max((r["timestamp"] for r in self._signs(1)), default=-inf)

    def _latest(self) -> list[dict[str, Any]]:
        """The last records that show a living trainer, in order of time."""
        return sorted(self._signs(LATEST), key=lambda r: r["timestamp"])[-LATEST:]

    def _signs(self, last: int) -> list[dict[str, Any]]:
        """The last records of each type that shows a living trainer, those that tell their time."""
        from fettle.decide.alerts import StalledRun

        rows = [r for type in StalledRun.reads for r in self.records(type, last=last)]
        return [r for r in rows if isinstance(r.get("timestamp"), float)]

    def _thresholds(self) -> AlertsConfig:
        """Those of its config.yaml, in which a callback has its settings below `fettle`."""
        from fettle.config import AlertsConfig, check_section

        stamp = file_stamp(self.config_path) if self.config_path else None
        if self._known_thresholds is None or self._known_thresholds[0] != stamp:
            config = self.config() or {}
            section = mapping(config.get("fettle", config)).get("alerts")
            checked = check_section(AlertsConfig, section, f"{self.path}/config.yaml [alerts]")
            self._known_thresholds = (stamp, checked)
        return self._known_thresholds[1]

    def verdict(self) -> Verdict:
        """Stop or go on, which checkpoint, and why."""
        from fettle.decide import verdict

        judged = verdict(self.evidence())
        unread = [f"Not all was read: {problem}." for problem in self.problems]
        return replace(judged, warnings=[*judged.warnings, *unread])


def open_run(path: str | Path, columns: str | Path | None = None) -> Run:
    """Open a run for reading; `columns` maps the column names of another tool's log.

    Raises RunError where `path` holds no run.
    """
    return Run(Path(path), None if columns is None else Path(columns))


def evaluate(
    *targets: str | Path,
    data: str | Path | Sequence[str | Path] = (),
    checkpoints: str = "all",
    profile: str | None = None,
    config: EvaluationConfig | Mapping[str, Any] | None = None,
    out: str | Path = "eval_runs",
    parallel: int | None = None,
    ray_address: str | None = None,
    report: bool = True,
    on_progress: Callable[[Progress], None] | None = None,
) -> Evaluation:
    """Evaluate checkpoints of runs, or models, on held-out chats, as `fettle eval` does.

    `data` are JSONL files, by default those that the runs were judged on; `checkpoints` is all, best, last,
    or steps such as 10,20,30; `config` are keys laid over the profile's, or all of them. With `parallel` so
    many workers of Ray run the models (0: as many as the memory has room for). `config.endpoint` is a model
    behind an API, evaluated beside the targets or without any. The result has `rows()` and
    `to_pandas()`; its files lie in a folder below `out`, `report.html` among them.

    Raises ConfigError, DataError, ModelError or RunError for what cannot be used. A checkpoint that cannot be
    is skipped with its reason.
    """
    from fettle.config import EvaluationConfig, evaluation_config
    from fettle.evaluation import evaluate as room

    if not isinstance(config, EvaluationConfig):
        config = evaluation_config(profile, config or {})
    subjects, skipped = _subjects([str(target) for target in targets], checkpoints, base=config.base)
    files = _files(data) or _held_out_files([str(target) for target in targets], needed=config.tasks is None)
    from fettle.evaluation.subject import endpoint_subject

    asked = [] if config.endpoint is None else [endpoint_subject(config.endpoint, subjects)]
    evaluation = room.evaluate(
        [*subjects, *asked], files, config, out=Path(out), skipped=skipped, on_progress=on_progress,
        parallel=parallel, ray_address=ray_address,
    )  # fmt: skip
    if report and evaluation.results:
        from fettle.report.evaluation import write_evaluation_report

        write_evaluation_report(evaluation.folder)
    return evaluation


def evaluate_while_training(
    run: str | Path,
    *,
    data: str | Path | Sequence[str | Path] = (),
    profile: str | None = None,
    config: EvaluationConfig | Mapping[str, Any] | None = None,
    poll_seconds: float = 5.0,
    stop_on_regression: bool = False,
    report: bool = True,
    on_progress: Callable[[Progress], None] | None = None,
) -> Evaluation:
    """Evaluate the checkpoints of a run as they appear, as `fettle eval --watch` does, until it ends.

    Results go into the run folder, where page, alerts and verdict see them. With `stop_on_regression` the
    trainer is asked to stop, once it has saved a checkpoint, when one is worse than a checkpoint before it
    (the alert evaluation_regression). Raises what `evaluate` raises.
    """
    from fettle.config import EvaluationConfig, evaluation_config
    from fettle.evaluation import watching

    if not isinstance(config, EvaluationConfig):
        config = evaluation_config(profile, config or {})
    if config.endpoint is not None:
        raise ConfigError("endpoint: does not go with --watch. Leave it out, or evaluate without --watch")
    opened = open_run(run)

    def on_found(evaluation: Evaluation) -> None:
        if report and evaluation.results:
            from fettle.report.evaluation import write_evaluation_report

            write_evaluation_report(evaluation.folder)
        if stop_on_regression:
            opened.stop_where_worse()

    files = _files(data) or _held_out_files([str(run)], needed=config.tasks is None)
    return watching.watch(
        opened, files, config, poll_seconds=poll_seconds, on_found=on_found, on_progress=on_progress
    )


def _files(data: str | Path | Sequence[str | Path]) -> list[Path]:
    return [Path(data)] if isinstance(data, (str, Path)) else [Path(file) for file in data]


def _subjects(targets: Sequence[str], which: str, *, base: bool) -> tuple[list[Subject], list[Skipped]]:
    """What is evaluated, with the names of their targets where there are several."""
    from fettle.evaluation.subject import find_subjects

    subjects: list[Subject] = []
    skipped: list[Skipped] = []
    for target in targets:
        best = None
        if "best" in which.split(",") and RunFolder.find(Path(target)) is not None:
            chosen = open_run(target).verdict().checkpoint
            best = chosen["step"] if chosen else None
        found, left_out = find_subjects(target, which, base=base, best=best)
        if len(targets) > 1 and len(found) > 1:
            prefix = Path(target).name
            found = [replace(subject, name=f"{prefix}-{subject.name}") for subject in found]
            left_out = [replace(skip, name=f"{prefix}-{skip.name}") for skip in left_out]
        subjects += found
        skipped += left_out
    return subjects, skipped


def _held_out_files(targets: Sequence[str], *, needed: bool) -> list[Path]:
    """The files that the runs were judged on. Raises DataError where there are none and one is needed."""
    found: dict[Path, None] = {}
    for target in targets:
        if RunFolder.find(Path(target)) is not None:
            fixed_eval = RunReader(Path(target)).fixed_eval_file()
            if fixed_eval is not None:
                found[fixed_eval] = None
    if needed and not found:
        named = f"{', '.join(targets)}: names" if targets else "an endpoint names"
        raise DataError(f"{named} no held-out file. Give one: --data valid.jsonl")
    return list(found)
