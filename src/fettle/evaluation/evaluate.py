"""`evaluate`: every checkpoint on the same samples, each sample of each at most once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fettle.config import EvaluationConfig
from fettle.evaluation.cache import ScoreCache
from fettle.evaluation.results import Evaluation, Progress
from fettle.evaluation.session import Session
from fettle.evaluation.subject import Evaluated, Skipped, Subject


def evaluate(
    subjects: Sequence[Evaluated],
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
    asked = [_plain(subject) for subject in subjects]
    session = Session(asked, data, config, out=out, skipped=skipped, cache=cache, on_progress=on_progress)
    with session.running():
        weights = [subject for subject in subjects if isinstance(subject, Subject)]
        if weights and (parallel is not None or ray_address is not None):
            session.spread(weights, parallel or 0, ray_address)
        for number, subject in enumerate(subjects, 1):
            session.evaluate(subject, number, len(subjects))
    return session.found


def _plain(subject: Evaluated) -> dict[str, str | None]:
    """What says whether two evaluations are of the same."""
    if isinstance(subject, Subject):
        adapter = None if subject.adapter is None else str(subject.adapter)
        return {"name": subject.name, "model": subject.model, "adapter": adapter}
    return {"name": subject.name, "tokenizer": subject.tokenizer}
