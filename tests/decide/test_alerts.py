"""Every alert fires at its threshold and not before, and clears once it is clearly over."""

from __future__ import annotations

from typing import Any

import pytest

from decide.alert_cases import CASES, Case, Row, checkpoint, evaluation, fixed_eval, memory, train
from fettle.config import AlertsConfig
from fettle.decide.alerts import CATALOGUE, AlertChange, AlertEngine

EACH = pytest.mark.parametrize("category", sorted(CASES))


def engine_of(category: str, **thresholds: Any) -> AlertEngine:
    return AlertEngine(AlertsConfig(**thresholds), only=[category])


def feed(engine: AlertEngine, rows: list[Row]) -> list[list[AlertChange]]:
    return [engine.feed(row) for row in rows]


def fired(case: Case, category: str) -> AlertEngine:
    engine = engine_of(category)
    feed(engine, case.fire)
    assert engine.active
    return engine


def test_every_alert_has_a_case() -> None:
    # A stall is found by a reader's clock and not by a record: see test_alerts_stall.
    assert {kind.category for kind in CATALOGUE} == {*CASES, "stalled_run"}


@EACH
def test_alerts_fire(category: str) -> None:
    case = CASES[category]
    engine = engine_of(category)
    *before, last = feed(engine, case.fire)
    assert not any(before)
    [change] = last
    assert change.change == "fired"
    alert = change.alert
    step = case.fire[-1]["step"]
    assert (alert.category, alert.level, alert.resolved) == (category, case.level, False)
    assert (alert.first_step, alert.last_step) == (
        step if case.first_step is None else case.first_step,
        step,
    )
    assert alert.threshold == getattr(AlertsConfig(), category)
    assert case.says in alert.message
    assert case.does in alert.action
    for key, value in case.evidence.items():
        known = alert.evidence[key]
        assert known == (pytest.approx(value, abs=1e-3) if isinstance(value, float) else value)


@EACH
def test_alerts_clear(category: str) -> None:
    case = CASES[category]
    engine = fired(case, category)
    *before, last = feed(engine, case.clear)
    assert not any(before)
    [change] = last
    assert change.change == "resolved"
    assert change.alert.resolved
    assert change.alert.resolved_step == case.clear[-1]["step"]
    assert engine.active == []
    assert [alert.category for alert in engine.alerts] == [category]


@EACH
def test_alerts_that_are_off_say_nothing(category: str) -> None:
    engine = engine_of(category, **{category: None})
    assert not any(feed(engine, CASES[category].fire))


@EACH
def test_alerts_are_told_once_while_they_hold(category: str) -> None:
    engine = fired(CASES[category], category)
    again = {**CASES[category].fire[-1]}
    for step in range(again["step"] + 1, again["step"] + 4):
        engine.feed({**again, "step": step})
    [alert] = engine.alerts
    assert alert.category == category


# -- what must not fire ---------------------------------------------------------------------


def test_alerts_no_vanishing_gradient_where_it_is_exactly_zero() -> None:
    assert not any(feed(engine_of("vanishing_gradients"), [train(1, grad_norm=0.0), train(2, grad_norm=0)]))


def test_alerts_no_nan_where_a_loss_scaler_skips_a_step() -> None:
    engine = engine_of("nan_loss")
    assert engine.feed(train(1, grad_norm=float("inf"), skipped=True)) == []
    assert [c.alert.message for c in engine.feed(train(2, grad_norm=float("inf")))] == [
        "Gradient norm is inf at step 2."
    ]


def test_alerts_no_low_rate_in_warm_up_and_planned_decay() -> None:
    engine = engine_of("low_learning_rate", low_learning_rate_after_steps=0)
    engine.feed({"type": "start", "step": 0, "total_steps": 1000})
    rising = [train(step, learning_rate=1e-8 * step) for step in range(1, 51)]
    decaying = [train(step, learning_rate=1e-9 * (1000 - step)) for step in range(751, 1001)]
    assert not any(feed(engine, [*rising, train(400), *decaying]))
    late = engine_of("low_learning_rate", low_learning_rate_after_steps=0)
    late.feed({"type": "start", "step": 0, "total_steps": 1000})
    assert [len(c) for c in feed(late, [train(600), train(601, learning_rate=1e-8)])] == [0, 1]


def test_alerts_no_spike_in_a_loss_that_is_zero() -> None:
    rows = [train(step, loss=0.0) for step in range(1, 12)]
    assert not any(feed(engine_of("loss_spike"), [*rows, train(12, loss=0.5)]))


def test_alerts_a_spike_does_not_hide_the_next() -> None:
    engine = engine_of("loss_spike", cooldown_steps=0)
    feed(engine, [train(step) for step in range(1, 11)])
    changes = feed(engine, [train(11, loss=50.0), train(12), train(13, loss=3.0)])
    assert [[c.change for c in row] for row in changes] == [["fired"], ["resolved"], ["fired"]]


@pytest.mark.parametrize("count", [3, 4, 5])
def test_alerts_no_em_plateau_in_the_first_evals_of_a_run_that_improves(count: int) -> None:
    """A mean of the last evals compared with itself would call this flat."""
    rows = [fixed_eval(100 * i, exact_match=0.3 + 0.05 * i, cross_entropy=1.0) for i in range(1, count + 1)]
    assert not any(feed(engine_of("em_plateau"), rows))


def test_alerts_no_em_plateau_while_cross_entropy_improves_or_nothing_is_right() -> None:
    better = [fixed_eval(100 * i, exact_match=0.5, cross_entropy=1 - 0.1 * i) for i in range(1, 8)]
    none = [fixed_eval(100 * i, exact_match=0.0, cross_entropy=0.7) for i in range(1, 8)]
    assert not any(feed(engine_of("em_plateau"), better))
    assert not any(feed(engine_of("em_plateau"), none))


def test_alerts_em_plateau_is_as_the_trainer_tested_it() -> None:
    """Flat numbers are no plateau where too few samples could tell, and the other way round."""

    def tested(step: int, state: str, exact_match: float) -> Row:
        found = {"state": state, "tested": True, "since_step": 100, "explanation": "5 evals, paired p = 0.43"}
        return fixed_eval(step, exact_match=exact_match, cross_entropy=0.7, exact_match_trend=found)

    flat = [tested(100 * i, "insufficient", 0.5) for i in range(1, 6)]
    assert not any(feed(engine_of("em_plateau"), flat))
    noisy = [tested(100 * i, "plateau", 0.5 + 0.01 * (-1) ** i) for i in range(1, 6)]
    [change] = feed(engine_of("em_plateau"), noisy)[0]
    assert "paired p = 0.43" in change.alert.message


def test_alerts_no_gap_between_losses_that_are_not_comparable() -> None:
    rows = [
        row
        for step in (100, 200, 300)
        for row in (
            {"type": "comparability", "step": step, "comparable": False, "completion_share": 0.2},
            train(step, loss=0.1, loss_sum=10.0),
            fixed_eval(step, cross_entropy=2.0),
        )
    ]
    assert not any(feed(engine_of("val_gap"), rows))
    engine = engine_of("not_comparable")
    feed(engine, rows)
    [alert] = engine.active
    assert "20%" in alert.message
    # The next start trains on completions.
    engine.feed({"type": "start", "step": 300})
    feed(engine, [train(310, loss=0.5, loss_sum=50.0), fixed_eval(400, cross_entropy=0.6)])
    assert engine.active == []


def test_alerts_no_overfitting_where_train_loss_rises_too() -> None:
    """A run that diverges is another matter."""
    rows: list[Row] = []
    for step, loss in zip(range(100, 700, 100), (0.9, 0.8, 0.9, 1.0, 1.1, 1.2), strict=True):
        rows += [train(step, loss=loss, loss_sum=100 * loss), fixed_eval(step, cross_entropy=loss)]
    assert not any(feed(engine_of("overfitting"), rows))


def test_alerts_no_regression_where_cross_entropy_rises_and_exact_match_improves() -> None:
    worse = evaluation(300, "hard.jsonl", cross_entropy=0.1)
    better = {**worse, "trend": {**worse["trend"], "exact_match": {"state": "improving", "effect": 0.1}}}
    engine = engine_of("evaluation_regression")
    assert engine.feed(better) == []
    [change] = engine.feed(worse)
    assert change.alert.evidence["metric"] == "cross-entropy"


def test_alerts_a_regression_of_what_a_checker_finds_right() -> None:
    engine = engine_of("evaluation_regression")
    worse = evaluation(300, "hard.jsonl", number_pass_rate=-0.1, exact_match=-0.02, cross_entropy=0.1)
    [change] = engine.feed(worse)
    assert change.alert.evidence["metric"] == "number pass rate"
    assert "number pass rate is regressing since step 100" in change.alert.message
    assert change.alert.evidence["effect"] == -0.1


def test_alerts_no_regression_where_cross_entropy_rises_and_more_answers_are_right() -> None:
    worse = evaluation(300, "hard.jsonl", cross_entropy=0.1)
    better = {**worse["trend"], "number_pass_rate": {"state": "improving", "effect": 0.1}}
    assert engine_of("evaluation_regression").feed({**worse, "trend": better}) == []


def test_alerts_full_fine_tuning_has_no_lora_layers() -> None:
    rows = [{**row, "method": "full"} for row in CASES["dead_lora_layers"].fire]
    assert not any(feed(engine_of("dead_lora_layers"), rows))


def test_alerts_a_layer_whose_weights_cannot_be_read_is_dead_where_it_did_not_move_at_all() -> None:
    rows = [{"layer": None, "movement": 0.0}, {"layer": 0, "movement": 1e-12}, {"layer": 1, "movement": 0.0}]
    record = {"type": "layers", "step": 9, "method": "lora", "since_step": 0, "rows": rows}
    [change] = engine_of("dead_lora_layers").feed(record)
    assert change.alert.evidence == {"layers": [1], "of": 2}


# -- what they say -------------------------------------------------------------------------------


def test_alerts_memory_use_that_falls_further_is_a_warning() -> None:
    engine = fired(CASES["low_vram_utilization"], "low_vram_utilization")
    [change] = engine.feed(memory(17, 0.375))
    assert (change.change, change.alert.level) == ("escalated", "warning")
    assert "38%" in change.alert.message


def test_alerts_a_disk_must_hold_two_more_checkpoints() -> None:
    engine = engine_of("disk_nearly_full")
    [change] = engine.feed(checkpoint(1, size_bytes=16_000_000_000, disk_free_bytes=30_000_000_000))
    assert "a checkpoint takes 16.00 GB" in change.alert.message


def test_alerts_no_checkpoint_to_restart_from_is_said() -> None:
    [change] = feed(engine_of("nan_loss"), [train(1), train(2, loss=float("nan"))])[-1]
    assert (
        change.alert.action
        == "Stop. No checkpoint was saved yet: start again with learning_rate 2.0e-05, a tenth."
    )


def test_alerts_the_last_good_checkpoint_is_one_from_before_the_nan() -> None:
    rows = [train(1), checkpoint(1), train(2, loss=float("nan")), checkpoint(2), train(3, grad_norm=500.0)]
    engine = AlertEngine(AlertsConfig(nan_loss=2), only=["nan_loss"])
    feed(engine, [*rows[:4], train(3, loss=float("inf"))])
    [alert] = engine.active
    assert "Restart from checkpoint-1 " in alert.action


def test_alerts_of_equal_exact_match_the_lower_cross_entropy_is_best() -> None:
    engine = engine_of("em_plateau")
    feed(engine, [checkpoint(100, exact_match=0.5, cross_entropy=0.8)])
    feed(engine, [checkpoint(200, exact_match=0.5, cross_entropy=0.7)])
    feed(engine, [checkpoint(300, exact_match=0.5, cross_entropy=0.9)])
    feed(engine, [fixed_eval(100 * i, exact_match=0.5, cross_entropy=0.7) for i in (1, 2, 3)])
    assert engine.active[0].evidence["best_checkpoint"] == "checkpoint-200"


def test_alerts_of_checkpoints_that_nothing_could_evaluate_ask_for_held_out_chats() -> None:
    [change] = engine_of("checkpoint_without_evaluation").feed(checkpoint(1))
    assert "data.fixed_eval" in change.alert.action


def test_alerts_under_confidence_is_no_reason_to_train_less() -> None:
    row = fixed_eval(100, expected_calibration_error=0.4, cross_entropy=2.0, entropy=5.0)
    [change] = engine_of("poor_calibration").feed(row)
    assert "less sure than it could be" in change.alert.message
    assert "fewer epochs" not in change.alert.action
