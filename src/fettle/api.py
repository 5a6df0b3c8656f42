"""The public face for programs: open a run, read its columns, ask for its verdict."""

from __future__ import annotations

from pathlib import Path

from fettle.decide import Evidence, Verdict, verdict
from fettle.runs import RunReader


class Run(RunReader):
    """Any run on disk: fettle's, a Hugging Face output folder or trainer_state.json, a metrics.jsonl."""

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
        return verdict(self.evidence())


def open_run(path: str | Path) -> Run:
    """Open a run for reading. Raises RunError where `path` holds none."""
    return Run(Path(path))
