"""A run that says nothing any more: found by a reader's clock."""

from __future__ import annotations

from typing import Any

from decide.alert_cases import Row, checkpoint, fixed_eval, start, train
from fettle.config import AlertsConfig
from fettle.decide.alerts import AlertEngine, stalled_run


def at(time: float, row: Row) -> Row:
    return {**row, "timestamp": time}


def begun(count: int = 10, seconds: float = 60.0) -> list[Row]:
    """A start, its steps, and a checkpoint at the last of them."""
    rows = [at(1000.0, start())]
    rows += [at(1100.0 + seconds * step, train(step)) for step in range(1, count + 1)]
    return [*rows, at(1100.0 + seconds * count + 1, checkpoint(count))]


def found(rows: list[Row], after: float, **thresholds: Any) -> Any:
    return stalled_run(rows, rows[-1]["timestamp"] + after, AlertsConfig(**thresholds))


def test_alerts_stalled_run_fires() -> None:
    rows = begun()
    assert found(rows, 20 * 60 - 1) is None
    change = found(rows, 20 * 60 + 1)
    alert = change.alert
    assert (change.change, alert.category, alert.level) == ("fired", "stalled_run", "warning")
    assert "No event for 1201 seconds after step 10; a step usually takes 60" in alert.message
    assert "goes on from checkpoint-10" in alert.action
    assert alert.evidence["limit_seconds"] == 1200.0


def test_alerts_stalled_run_clears() -> None:
    engine = AlertEngine(only=["stalled_run"])
    rows = begun()
    for row in rows:
        engine.feed(row)
    assert engine.tick(5000.0)
    assert engine.tick(6000.0) == []
    [change] = engine.feed(at(6001.0, train(11)))
    assert (change.change, change.alert.resolved_step) == ("resolved", 11)
    assert engine.active == []


def test_alerts_stalled_run_gives_fast_steps_five_minutes() -> None:
    rows = begun(seconds=0.1)
    assert found(rows, 299) is None
    assert found(rows, 301) is not None
    assert found(rows, 3, stalled_run_seconds=2.0) is not None


def test_alerts_stalled_run_waits_for_an_eval_as_long_as_the_last_took_twice() -> None:
    rows = [*begun(seconds=1.0), at(2000.0, fixed_eval(10)), at(2001.0, train(11))]
    taken = 2000.0 - 1111.0
    assert found(rows, 2 * taken - 1) is None
    assert found(rows, 2 * taken + 1) is not None


def test_alerts_stalled_run_knows_nothing_before_two_steps_and_after_the_end() -> None:
    assert found(begun(count=1), 1e6) is None
    rows = begun()
    assert found([*rows, at(rows[-1]["timestamp"] + 1, {"type": "end", "step": 10})], 1e6) is None


def test_alerts_stalled_run_takes_the_night_between_two_starts_for_no_step() -> None:
    rows = begun(seconds=60.0)
    later = [at(90_000.0, {"type": "resume", "step": 10}), at(90_000.0, start())]
    later += [at(90_100.0 + 60 * step, train(10 + step)) for step in range(3)]
    assert found([*rows, *later], 1201) is not None


def test_alerts_stalled_run_survives_a_clock_that_jumps_back() -> None:
    rows = [*begun(), at(500.0, train(11)), at(560.0, train(12))]
    assert found(rows, 1201) is not None
    assert stalled_run(rows, 0.0) is None


def test_alerts_stalled_run_that_is_off_is_none() -> None:
    assert found(begun(), 1e6, stalled_run=None) is None
