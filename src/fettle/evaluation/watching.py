"""Checkpoints of a run that trains, evaluated as they appear."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from loguru import logger

from fettle.config import EvaluationConfig
from fettle.decide.trend import share_trend, trend
from fettle.errors import RunError
from fettle.evaluation.cache import ScoreCache
from fettle.evaluation.results import Evaluation, Progress, SubjectResult
from fettle.evaluation.session import Session
from fettle.evaluation.subject import Skipped, Subject, subjects_of
from fettle.runs import RowLog, RunReader
from fettle.runs.folder import RunFolder, hold
from fettle.runs.records import LIVE, FixedEval

POLL_SECONDS = 5.0


def watch(
    run: RunReader,
    data: Sequence[Path],
    config: EvaluationConfig,
    *,
    poll_seconds: float = POLL_SECONDS,
    cache: ScoreCache | None = None,
    on_found: Callable[[Evaluation], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Evaluation:
    """Evaluate every checkpoint of a run now, and each that appears until the run ends.

    Each result is a row of `evaluations/evaluations.jsonl` in the run folder, with how exact match,
    cross-entropy and what checkers find right go from checkpoint to checkpoint; the files are beside it.
    `on_found` is told after each subject. A run of another tool does not say that it ends, and is watched
    until the process is. Raises RunError where another process watches the run.
    """
    folder = RunFolder(run.path)
    path = folder.evaluations_path
    log = RowLog(path, "evaluation")
    session = Session(
        {"run": str(run.path)}, data, config, out=path.parent, cache=cache, on_progress=on_progress
    )
    refusal = f"{run.path}: another process evaluates the checkpoints of this run. Stop it first"
    with hold(folder.evaluations_lock_path, refusal), session.running():
        try:
            for number, subject in enumerate(appearing(run, session.skip, poll_seconds, config.base), 1):
                results = session.evaluate(subject, number, number)
                known = run.evaluations()
                log.append(row for result in results if not _stands((row := _row(session, result)), known))
                if on_found is not None:
                    on_found(session.found)
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error
        finally:
            log.close()
    return session.found


def appearing(
    run: RunReader, skip: Callable[[Skipped], None], poll_seconds: float, base: bool
) -> Iterator[Subject]:
    """Subjects of a run, and those to come until it ends; one that was saved anew comes again.

    One that cannot be used may be half written: it is skipped only once the run has ended.
    """
    seen: set[tuple[str, int]] = set()
    while True:
        # In this order: what is saved before the end is found after it.
        ended = _has_ended(run)
        run.refresh()
        subjects, skipped = subjects_of(run, run.checkpoints(), base=base)
        for subject in subjects:
            mark = (subject.name, _saved_at(subject))
            if mark not in seen:
                seen.add(mark)
                yield subject
        if ended:
            for one in skipped:
                skip(one)
            return
        time.sleep(poll_seconds)


def _has_ended(run: RunReader) -> bool:
    state = run.state()
    if state in LIVE or state == "unknown":  # One that has not begun, or of a tool that does not tell.
        return False
    logger.info("{} is {}", run.name, state)
    return True


def _saved_at(subject: Subject) -> int:
    """When its folder was put there, in nanoseconds; 0 for a hub id."""
    try:
        return (subject.adapter or Path(subject.model)).stat().st_mtime_ns
    except OSError:
        return 0


def _row(session: Session, result: SubjectResult) -> dict[str, Any]:
    """One result in the run's stream: what its summary says in numbers, and where the metrics go."""
    plain = {key: value for key, value in result.summary.items() if not isinstance(value, (dict, list))}
    return {
        "step": result.subject.step,
        "name": result.subject.name,
        "data": result.data.name,
        "weights": session.model.known_weights.get(result.subject.name),
        "folder": session.found.folder.name,
        **plain,
        "trend": _trends(session.found.results, result),
    }


def _trends(results: Sequence[SubjectResult], last: SubjectResult) -> dict[str, Any]:
    """By metric and checker: the checkpoint against those before it, honest about picking the best and
    looking often."""
    if last.subject.step is None:
        return {}
    until = {
        result.subject.step: result
        for result in results
        if result.data == last.data
        and result.subject.step is not None
        and result.subject.step <= last.subject.step
    }
    evals = [
        FixedEval(
            step,
            exact_match=result.summary["exact_match"],
            cross_entropy=result.summary["cross_entropy"],
            per_sample=result.samples,
        )
        for step, result in until.items()
    ]
    judged = [
        share_trend(f"{checker}_pass_rate", {step: result.shares[checker] for step, result in until.items()})
        for checker in last.shares
    ]
    return {
        **{metric: trend(evals, metric).to_json() for metric in ("exact_match", "cross_entropy")},
        **{found.metric: found.to_json() for found in judged},
    }


def _stands(row: dict[str, Any], known: Sequence[dict[str, Any]]) -> bool:
    """Whether the stream says the same already, as it does when a watch begins anew."""
    same = ("step", "data", "weights", "folder")
    return any(all(row[key] == other.get(key) for key in same) for other in known)
