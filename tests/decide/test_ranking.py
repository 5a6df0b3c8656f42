"""Checkpoints in the order of their composite scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from decide.fixed_evals import loss_only
from fettle.decide import checkpoint_score, rank_checkpoints, score_evals
from fettle.runs import RunReader
from fettle.runs.records import Checkpoint


def train(losses: list[float]) -> dict[str, np.ndarray]:
    return {"step": np.arange(100.0, 100 * len(losses) + 1, 100), "loss": np.array(losses)}


def stored(step: int, eval_loss: float, train_loss: float, improved: bool | None) -> Checkpoint:
    score = checkpoint_score(eval_loss, train_loss, improved)
    return Checkpoint(
        step=step, path=Path(f"checkpoint-{step}"), score=score.score, components=score.components,
        inputs=score.inputs, score_version=score.version, train_loss=train_loss, cross_entropy=eval_loss,
    )  # fmt: skip


def test_stored_scores_stand_and_are_never_recomputed() -> None:
    checkpoints = [stored(100, 1.0, 1.02, True), stored(200, 1.15, 1.10, False), stored(300, 0.9, 0.9, True)]
    # The log says something else; what was stored at the time counts.
    rows = rank_checkpoints(checkpoints, loss_only([0.1, 0.1, 5.0]), train([0.1, 0.1, 5.0]))
    assert [(r.rank, r.step, r.stored) for r in rows] == [(1, 300, True), (2, 100, True), (3, 200, True)]
    assert rows[0].score.score == checkpoint_score(0.9, 0.9, True).score
    assert rows[1].to_json()["components"]["bonus"] == -0.1


def test_checkpoint_without_an_eval_is_incomparable_and_last() -> None:
    rows = rank_checkpoints(
        [stored(100, 1.0, 1.0, None), Checkpoint(step=250, path=Path("checkpoint-250"))],
        loss_only([1.0]),
        train([1.0, 0.9]),
    )
    assert [(r.step, r.rank) for r in rows] == [(100, 1), (250, None)]
    assert rows[1].score.reason == "no eval at this step"


def test_foreign_run_is_scored_from_its_log() -> None:
    rows = rank_checkpoints(
        [Checkpoint(step=s, path=Path(f"checkpoint-{s}")) for s in (100, 200, 300)],
        loss_only([1.0, 0.8, 0.9]),
        train([1.1, 0.7, 0.5]),
    )
    assert [r.step for r in rows] == [200, 100, 300] or [r.step for r in rows] == [200, 300, 100]
    by_step = {r.step: r for r in rows}
    assert by_step[100].score.score == checkpoint_score(1.0, 1.1, None).score
    assert by_step[200].score.score == checkpoint_score(0.8, 0.7, True).score
    assert by_step[300].score.score == checkpoint_score(0.9, 0.5, False).score
    assert not by_step[100].stored


def test_bonus_goes_by_the_best_before_not_by_the_eval_before() -> None:
    scores = score_evals(loss_only([1.0, 1.5, 1.2, 0.9]), train([1.0, 1.0, 1.0, 1.0]))
    assert [s.components["bonus"] for s in scores.values()] == [0.0, 0.0, 0.0, -0.1]


def test_equal_losses_are_two_evals() -> None:
    scores = score_evals(loss_only([1.0, 1.0]), train([1.0, 1.0]))
    assert sorted(scores) == [100, 200]


def test_missing_train_loss_is_incomparable_not_cheap() -> None:
    late = {"step": np.array([150.0]), "loss": np.array([0.9])}
    rows = rank_checkpoints([Checkpoint(step=s, path=None) for s in (100, 200)], loss_only([0.1, 0.9]), late)
    assert [(r.step, r.rank) for r in rows] == [(200, 1), (100, None)]


def test_nothing_is_ranked_by_a_gap_that_means_nothing() -> None:
    evals = loss_only([1.0, 0.5, 0.4, 0.3])
    losses = [16.0, 8.0, 6.4, 4.8]
    checkpoints = [Checkpoint(step=100 * (i + 1), path=Path(f"checkpoint-{i}")) for i in range(3)]
    checkpoints.append(stored(400, 0.3, 4.8, True))  # scored live, before anybody could know
    rows = rank_checkpoints(checkpoints, evals, train(losses))
    assert [r.rank for r in rows] == [None] * 4
    assert all("not comparable" in (r.score.reason or "") for r in rows)
    assert rows[0].cross_entropy == 0.3


@pytest.mark.real_data
def test_law_llm_has_no_scores(real_data: Path) -> None:
    run = RunReader(real_data / "hf_runs" / "law-llm.trainer_state.json")
    scores = score_evals(run.evals(), run.columns("train"))
    assert len(scores) == 6
    assert all(s.score is None for s in scores.values())


def test_no_checkpoints() -> None:
    assert rank_checkpoints([], [], {}) == []
