"""Follows one run folder: reads what is new, and judges again only where the evidence changed."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fettle.errors import RunError
from fettle.runs.control import Action, ask_trainer, read_requests
from fettle.runs.discover import file_stamp
from fettle.runs.log_lines import LogLine, LogLines
from fettle.runs.records import FixedEval
from fettle.runs.summary import summarise_reader, summarise_run
from fettle.watch import gather
from fettle.watch.facts import Facts, data_set

if TYPE_CHECKING:
    from fettle.api import Run

LOG_LINES = 2_000
"""Of the text log that are held for the view."""


class Watcher:
    """One run as it grows. `poll` is for one thread; what it gives may be read in any."""

    def __init__(self, path: Path, columns: Path | None = None) -> None:
        self.path = path
        self._columns = columns
        self._run: Run | None = None
        self._log: LogLines | None = None
        self._facts: Facts | None = None
        self._known: dict[str, tuple[Hashable, Any]] = {}

    def poll(self) -> Iterator[Facts]:
        """The run as of now, in one or more steps: what is known at once comes first.

        Raises RunError where the path never held a run; later on that is told as a fact.
        """
        if not self.path.exists():
            yield self._missing()
            return
        try:
            if self._run is None:
                yield from self._first_look()
            run = self._opened()
            facts = self._facts = self._gathered(run)
            yield facts
            if self._judge(run):
                self._facts = self._with_verdict(facts)
                yield self._facts
        except (RunError, OSError) as error:
            if self._facts is None:
                raise
            self._run = None
            self._facts = replace(self._facts, reading=False, problems=(str(error),), refusal=str(error))
            yield self._facts

    def ask(self, action: Action) -> None:
        """Ask its trainer for something. Raises RunError where nobody can be asked."""
        from fettle.api import open_run

        # A reader of its own: this is called while another thread reads on.
        run = self._run or open_run(self.path, self._columns)
        refusal = run.refusal()
        if refusal is not None or run.folder is None:
            raise RunError(refusal or "there is no run folder")
        ask_trainer(run.folder.control_path, action)

    def _missing(self) -> Facts:
        if self._facts is None:
            raise RunError(f"{self.path}: there is no such run")
        self._run = None
        problem = f"{self.path} is gone: this is what it said last"
        self._facts = replace(self._facts, gone=True, problems=(problem,), refusal="the run folder is gone")
        return self._facts

    def _first_look(self) -> Iterator[Facts]:
        """What the small files say: a long log takes seconds to read."""
        from fettle.runs.folder import RunFolder

        if self._facts is None and RunFolder.is_run(self.path):
            summary = summarise_run(self.path)
            metadata = RunFolder(self.path).read_metadata()
            train, held_out = data_set(metadata, "train"), data_set(metadata, "fixed_eval")
            yield Facts(summary, reading=True, train_data=train, eval_data=held_out)

    def _opened(self) -> Run:
        from fettle.api import open_run

        if self._run is None:
            self._known.clear()
            self._run = open_run(self.path, self._columns)
        else:
            self._run.refresh()
        return self._run

    def _gathered(self, run: Run) -> Facts:
        evals = self._evals(run)
        last, system = run.records("train", last=1), run.records("system", last=1)
        metadata = run.metadata()
        refusal = run.refusal()
        asked = _pending(run) if refusal is None else None
        before = self._facts
        return Facts(
            summary=summarise_reader(run),
            segment=run.segment,
            train_data=data_set(metadata, "train"),
            eval_data=data_set(metadata, "fixed_eval"),
            status=run.status() or {},
            train=last[-1] if last else {},
            system=system[-1] if system else {},
            losses=gather.losses(run, evals),
            evals=evals,
            curves=self._derived("curves", (run.segment, run.position), lambda: gather.curves(run)),
            layers=self._derived(
                "layers", (run.segment, run.counts().get("layers")), lambda: gather.layers(run)
            ),
            alerts=gather.alerts(run),
            verdict=before.verdict if before else None,
            verdict_problem=before.verdict_problem if before else None,
            problems=tuple(run.problems),
            log=self._log_lines(run),
            refusal=refusal,
            asked=asked,
        )

    def _judge(self, run: Run) -> bool:
        """Whether the run was judged again, for its evidence changed."""
        before = self._known.get("verdict")
        try:
            stamp: Hashable = run.evidence_stamp()
        except RunError as error:  # Its configuration is damaged: told where the verdict would be.
            stamp = str(error)
        self._derived("verdict", stamp, lambda: gather.verdict(run))
        return self._known["verdict"] is not before

    def _with_verdict(self, facts: Facts) -> Facts:
        verdict, problem = self._known["verdict"][1]
        return replace(facts, verdict=verdict, verdict_problem=problem)

    def _evals(self, run: Run) -> tuple[FixedEval, ...]:
        key = (run.segment, run.counts().get("fixed_eval"))
        return self._derived("evals", key, lambda: tuple(run.evals(per_sample=False)))

    def _log_lines(self, run: Run) -> tuple[LogLine, ...] | None:
        if run.log_path is None or not run.log_path.is_file():
            return None
        if self._log is None or self._log.path != run.log_path:
            self._log = LogLines(run.log_path)
        log = self._log
        return self._derived("log", file_stamp(run.log_path), lambda: self._tail(log))

    @staticmethod
    def _tail(log: LogLines) -> tuple[LogLine, ...]:
        log.refresh()
        # A line may still grow while it is shown: copies are not changed by the next reading.
        return tuple(replace(line) for line in log.select(LOG_LINES, -LOG_LINES)[2])

    def _derived(self, name: str, key: Hashable, compute: Any) -> Any:
        """What `compute` gave when the key was last this one."""
        known = self._known.get(name)
        if known is None or known[0] != key:
            known = self._known[name] = (key, compute())
        return known[1]


def _pending(run: Run) -> str | None:
    """What its trainer was last asked for and has not obeyed yet."""
    if run.folder is None or not run.folder.control_path.is_file():
        return None
    try:
        requests = read_requests(run.folder.control_path)
    except RunError:
        return None  # The trainer says so in the log.
    obeyed = {record.get("id") for record in run.records("control")}
    return requests[-1].action if requests and requests[-1].id not in obeyed else None
