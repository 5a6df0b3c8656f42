"""The public face for programs: open a run, read its columns, ask for its verdict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fettle.decide import Evidence, Verdict, verdict
from fettle.runs import RunReader


class Run(RunReader):
    """Any run on disk: fettle's, or that of another tool (see docs/other-tools.md)."""

    def evidence(self) -> Evidence:
        """Everything the verdict looks at."""
        stops, layers = self.records("early_stop"), self.layers()
        return Evidence(
            name=self.name,
            state=self.state(),
            evals=self.evals(),
            checkpoints=self.checkpoints(),
            train=self.columns("train"),
            early_stop=stops[-1] if stops else None,
            alerts=self.records("alert"),
            config=self.config(),
            metadata=self.metadata(),
            layers=layers[-1] if layers else None,
        )

    def verdict(self) -> Verdict:
        """Stop or go on, which checkpoint, and why."""
        judged = verdict(self.evidence())
        unread = [f"Not all was read: {problem}." for problem in self.problems]
        return replace(judged, warnings=[*judged.warnings, *unread])


def open_run(path: str | Path, columns: str | Path | None = None) -> Run:
    """Open a run for reading; `columns` maps the column names of another tool's log.

    Raises RunError where `path` holds no run.
    """
    return Run(Path(path), None if columns is None else Path(columns))
