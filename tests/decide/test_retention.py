"""Which checkpoints stay: every rule keeps something, and what must never go never goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decide.fixed_evals import fixed_eval, loss_only
from fettle.config import CheckpointsConfig
from fettle.decide import choose_checkpoint, retain
from fettle.runs.records import Checkpoint, FixedEval

LOSSES = [1.0, 0.6, 0.4, 0.5, 0.7, 0.9]  # At steps 100 to 600: 300 is the best, then 400, 200, 500.


def checkpoint(step: int, **fields: Any) -> Checkpoint:
    given = {"path": Path(f"checkpoint-{step}"), "has_provenance": True, **fields}
    return Checkpoint(step=step, **given)


SAVED = [checkpoint(100 * (i + 1)) for i in range(len(LOSSES))]


def kept(policy: CheckpointsConfig, checkpoints: list[Checkpoint] = SAVED, **more: Any) -> list[int]:
    evals = more.pop("evals", loss_only(LOSSES))
    return [row.step for row in retain(policy, checkpoints, evals, **more) if row.keep]


@pytest.mark.parametrize(
    ("rules", "steps"),
    [
        ({}, [100, 200, 300, 400, 500, 600]),
        ({"keep_best": 1}, [300, 600]),
        ({"keep_best": 3}, [200, 300, 400, 600]),
        ({"keep_best": 99}, [100, 200, 300, 400, 500, 600]),
        ({"keep_latest": 1}, [300, 600]),
        ({"keep_latest": 2}, [300, 500, 600]),
        ({"keep_every_steps": 400}, [300, 400, 600]),
        ({"keep_best": 2, "keep_latest": 2, "keep_every_steps": 200}, [200, 300, 400, 500, 600]),
    ],
)
def test_each_rule_keeps_what_it_says(rules: dict[str, int], steps: list[int]) -> None:
    assert kept(CheckpointsConfig(**rules)) == steps


def test_everything_that_keeps_a_checkpoint_is_said() -> None:
    rows = retain(CheckpointsConfig(keep_best=1, keep_every_steps=300), SAVED, loss_only(LOSSES))
    assert rows[2].reasons == [
        "the verdict's choice",
        "among the 1 best by cross-entropy",
        "one of every 300 steps",
    ]
    assert rows[0].reasons == []
    assert rows[0].to_json()["keep"] is False


@pytest.mark.parametrize(
    "fields", [{"pinned": True}, {"has_provenance": False}, {"extra": {"best_of_trainer": True}}]
)
def test_what_is_pinned_or_unknown_or_called_best_elsewhere_stays(fields: dict[str, Any]) -> None:
    saved = [checkpoint(100, **fields), *SAVED[1:]]
    assert kept(CheckpointsConfig(keep_best=1), saved) == [100, 300, 600]
    assert kept(CheckpointsConfig(keep_best=1)) == [300, 600]


def test_the_best_is_the_verdicts_choice_even_where_a_later_one_has_the_lower_loss() -> None:
    base = np.random.default_rng(0).gamma(2, 0.2, 200)
    noise = np.random.default_rng(1).normal(0, 0.05, 200)
    # 200 is lower by far less than the standard error of the two, about 0.0035: 100 is the choice.
    evals = [fixed_eval(100, base), fixed_eval(200, base + noise - noise.mean() - 1e-4)]
    evals += [fixed_eval(300, base + 1.0), fixed_eval(400, base + 2.0)]
    saved = SAVED[:4]
    choice = choose_checkpoint(evals, saved)
    assert choice is not None
    assert (choice.step, choice.best_step) == (100, 200)
    assert kept(CheckpointsConfig(keep_best=1), saved, evals=evals) == [100, 400]
    assert kept(CheckpointsConfig(keep_best=2), saved, evals=evals) == [100, 200, 400]


def test_where_the_newest_is_damaged_the_one_that_training_goes_on_from_stays_too() -> None:
    assert kept(CheckpointsConfig(keep_latest=1), resume_step=500) == [300, 500, 600]


def test_without_any_eval_nothing_can_be_called_worse() -> None:
    assert kept(CheckpointsConfig(keep_best=1), evals=[]) == [c.step for c in SAVED]
    assert kept(CheckpointsConfig(keep_latest=2), evals=[]) == [500, 600]


def test_a_lost_log_does_not_lose_the_best() -> None:
    saved = [checkpoint(100 * (i + 1), cross_entropy=loss) for i, loss in enumerate(LOSSES)]
    assert kept(CheckpointsConfig(keep_latest=1), saved, evals=[]) == [300, 600]


def test_only_what_is_on_this_disk_is_judged() -> None:
    remote = checkpoint(100, path=None, url="tinker://run/weights/100")
    gone = checkpoint(200, path=None)
    assert [r.step for r in retain(CheckpointsConfig(keep_best=1), [remote, gone, *SAVED[2:]], [])] == [
        300, 400, 500, 600,
    ]  # fmt: skip
    assert retain(CheckpointsConfig(keep_best=1), [], []) == []


rules = st.none() | st.integers(1, 5)


@given(
    rules=st.fixed_dictionaries({"keep_best": rules, "keep_latest": rules, "keep_every_steps": rules}),
    losses=st.dictionaries(st.integers(1, 30), st.none() | st.floats(0, 9), max_size=15),
    saved=st.dictionaries(st.integers(1, 30), st.tuples(st.booleans(), st.booleans()), max_size=15),
)
def test_no_rule_ever_gives_away_the_best_the_newest_a_pin_or_an_unknown(
    rules: dict[str, int | None],
    losses: dict[int, float | None],
    saved: dict[int, tuple[bool, bool]],
) -> None:
    checkpoints = [checkpoint(s, pinned=pinned, has_provenance=known) for s, (pinned, known) in saved.items()]
    evals = [FixedEval(step=s, cross_entropy=loss) for s, loss in losses.items()]
    rows = retain(CheckpointsConfig(**rules), checkpoints, evals)
    going = {row.step for row in rows if not row.keep}
    assert [row.step for row in rows] == sorted(saved)
    assert not going & {s for s, (pinned, known) in saved.items() if pinned or not known}
    assert not saved or max(saved) not in going
    choice = choose_checkpoint(evals, checkpoints)
    measured = {s: loss for s, loss in losses.items() if loss is not None and s in saved}
    if choice is not None:
        assert choice.step not in going
        assert min(measured, key=lambda s: (measured[s], s)) not in going
