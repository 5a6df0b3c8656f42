"""Actions that several alerts advise, in one wording."""

from __future__ import annotations

from fettle.decide.alerts.run_state import RunState

LOWER = 10
"""A tenth of the learning rate: what ends a divergence for certain."""


def restart_lower(checkpoint: str | None, learning_rate: float | None) -> str:
    """`Restart from checkpoint-1200 with learning_rate 2.0e-05, a tenth.`

    `learning_rate` is the peak of the schedule, which is what a configuration says.
    """
    rate = (
        f"learning_rate {learning_rate / LOWER:.1e}, a tenth"
        if learning_rate
        else "a tenth of the learning rate"
    )
    if checkpoint is None:
        return f"No checkpoint was saved yet: start again with {rate}."
    return f"Restart from {checkpoint} with {rate}."


def stop_and_restart(run: RunState) -> str:
    """The cure of a run that diverges."""
    return f"Stop. {restart_lower(run.last_checkpoint, run.peak_rate)}"


def stop_and_use_best(run: RunState) -> str:
    """The cure of a run that has nothing more to gain."""
    if run.best_checkpoint is None:
        return "Stop. No evaluated checkpoint was saved: evaluate what there is before you ship it."
    return f"Stop. Use {run.best_checkpoint}, the best so far."
