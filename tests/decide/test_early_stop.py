"""Early stopping: thresholds, patience, counting once, restoring exactly."""

import json
import math

import pytest

from fettle.decide import EarlyStopping


def told(stopping: EarlyStopping, values: list[float | None]) -> list[tuple[bool, int, bool]]:
    decisions = [stopping.update(10 * (i + 1), value) for i, value in enumerate(values)]
    return [(d.improved, d.evals_without_improvement, d.should_stop) for d in decisions]


def test_absolute_threshold_is_strict() -> None:
    # 0.75 - 0.25 is exact in binary: a fall of just the threshold is no improvement.
    assert told(EarlyStopping(2, threshold=0.25), [0.75, 0.5, 0.4999, 0.3]) == [
        (True, 0, False),
        (False, 1, False),
        (True, 0, False),
        (False, 1, False),
    ]


def test_relative_threshold() -> None:
    stopping = EarlyStopping(5, relative=0.1)
    assert [i for i, *_ in told(stopping, [1.0, 0.95, 0.89, 0.85, 0.80])] == [True, False, True, False, True]


def test_slow_progress_adds_up() -> None:
    # 0.006 per eval never beats 0.01 over the eval before, but does over the reference.
    stopping = EarlyStopping(3, threshold=0.01)
    values = [1.0 - 0.006 * i for i in range(20)]
    assert not any(stop for *_, stop in told(stopping, values))


def test_stops_at_patience_and_says_why() -> None:
    stopping = EarlyStopping(3, threshold=0.01)
    assert [s for *_, s in told(stopping, [0.5, 0.495, 0.51, 0.52])] == [False, False, False, True]
    assert stopping.stopped
    assert (stopping.best, stopping.best_step) == (0.495, 20)
    assert stopping.reason == (
        "3 evaluations in a row did not improve by more than 0.01; the best was 0.4950 at step 20"
    )


def test_new_best_below_the_threshold_is_still_the_best() -> None:
    stopping = EarlyStopping(3, threshold=0.01)
    stopping.update(10, 0.5)
    decision = stopping.update(20, 0.495)
    assert (decision.improved, decision.new_best) == (False, True)
    assert (decision.best, decision.best_step) == (0.495, 20)


def test_patience_zero_is_off() -> None:
    stopping = EarlyStopping(0)
    assert not any(stop for *_, stop in told(stopping, [0.5] + [0.9] * 50))
    assert stopping.evals_without_improvement == 50
    assert not stopping.stopped
    assert stopping.reason is None


def test_an_eval_counts_once_however_often_it_is_told() -> None:
    # Interval and epoch end on one step once took two from the patience.
    stopping = EarlyStopping(2)
    stopping.update(10, 0.5)
    first = stopping.update(20, 0.6, eval_id="a")
    assert stopping.update(20, 0.6, eval_id="b") == first
    assert stopping.update(20, 0.6) == first
    assert stopping.update(21, 0.6, eval_id="a") == first
    assert stopping.evals_without_improvement == 1
    # The answer to an old eval does not change when later ones have been counted.
    assert stopping.update(30, 0.7).should_stop
    assert stopping.update(20, 0.6) == first


def test_equal_losses_at_different_steps_are_two_evals() -> None:
    stopping = EarlyStopping(2)
    assert [n for _, n, _ in told(stopping, [0.5, 0.5, 0.5])] == [0, 1, 2]


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_what_was_not_measured_counts_for_nothing(missing: float | None) -> None:
    stopping = EarlyStopping(1)
    stopping.update(10, 0.5)
    decision = stopping.update(20, missing)
    assert (decision.improved, decision.should_stop, decision.evals_without_improvement) == (False, False, 0)
    assert stopping.update(20, 0.6).should_stop  # measured after all


def test_zero_is_an_improvement() -> None:
    stopping = EarlyStopping(1)
    stopping.update(10, 0.5)
    assert stopping.update(20, 0.0).improved
    assert stopping.best == 0.0


@pytest.mark.parametrize("cut", range(8))
def test_restores_exactly_at_any_moment(cut: int) -> None:
    values = [1.0, 0.9, 0.895, None, 0.91, 0.7, 0.71, 0.72]
    whole = EarlyStopping(2)
    expected = told(whole, values)
    before = EarlyStopping(2)
    told(before, values[:cut])
    after = EarlyStopping(2)
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    # The evals before the cut are told again: they are known, and not counted again.
    again = told(after, values)
    assert [d for d, v in zip(again, values, strict=True) if v is not None] == [
        d for d, v in zip(expected, values, strict=True) if v is not None
    ]
    assert after.state_dict() == whole.state_dict()


def test_a_rerun_after_early_stop_is_told() -> None:
    stopping = EarlyStopping(1)
    told(stopping, [0.5, 0.6])
    again = EarlyStopping(1)
    again.load_state_dict(stopping.state_dict())
    assert again.stopped
    assert again.reason == stopping.reason
    patient = EarlyStopping(3)
    patient.load_state_dict(stopping.state_dict())
    assert not patient.stopped  # a person who raised the patience may go on
