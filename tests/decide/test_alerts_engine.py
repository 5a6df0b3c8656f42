"""The engine behind all alerts: a function of the log, quiet where nothing changed."""

from __future__ import annotations

import json
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decide.alert_cases import CASES, Row, checkpoint, fixed_eval, start, train
from fettle.config import AlertsConfig
from fettle.decide.alerts import Alert, AlertEngine, EvalTests, active_alerts, replay, replayed
from fettle.metrics import summarise_samples
from fettle.runs import EventLog, LogFollower
from fettle.runs.records import SampleResults


def changes_of(rows: list[Row], **thresholds: Any) -> list[tuple[str, str, int | None]]:
    engine = AlertEngine(AlertsConfig(**thresholds))
    return [(c.change, c.alert.category, c.step) for row in rows for c in engine.feed(row)]


def eventful() -> list[Row]:
    """A run in which nearly everything goes wrong."""
    rng = np.random.default_rng(0)
    rows: list[Row] = [start(total_steps=400, leakage={"exact": 2, "near": 0, "samples": 50})]
    for step in range(1, 401):
        loss = 3.0 * 0.99**step + 0.3 * abs(rng.normal()) + (9 if step % 97 == 0 else 0)
        norm = inf if step == 350 else 10 ** rng.uniform(-9, 2.2)
        rows.append(
            train(
                step, loss=nan if step == 300 else loss, loss_sum=100 * loss, grad_norm=norm,
                learning_rate=2e-2 if step < 50 else 1e-4, tokens_per_sec=1000.0 if step < 200 else 300.0,
                step_time=1.0, monitor_time=0.2 if 100 < step < 200 else 0.0,
            )
        )  # fmt: skip
        if step % 25 == 0:
            rows.append(
                fixed_eval(
                    step, cross_entropy=abs(loss) + 0.002 * step, exact_match=0.5, seconds=20.0,
                    expected_calibration_error=0.001 * step,
                    disk_free_bytes=4_000_000_000 - step * 10_000_000,
                )
            )  # fmt: skip
            rows.append(checkpoint(step, cross_entropy=loss if step % 50 == 0 else None))
    return rows


def test_alerts_live_are_those_of_a_replay(tmp_path: Path) -> None:
    """Through a real log: NaN becomes null and a flag on the way."""
    rows = eventful()
    engine = AlertEngine()
    live = [c.fields() for row in rows for c in engine.feed(row)]
    log = EventLog(tmp_path / "metrics.jsonl")
    for row in rows:
        log.append(row["type"], {key: value for key, value in row.items() if key != "type"})
    log.close()
    logged = LogFollower(tmp_path / "metrics.jsonl").poll()
    other, changes = replayed(logged)
    assert len({c["category"] for c in live}) > 12
    assert [c.fields() for c in changes] == live
    assert other.alerts == engine.alerts
    assert replay(logged) == replay(logged) == engine.alerts


def test_alerts_of_numpy_and_torch_numbers_are_those_of_plain_ones() -> None:
    import torch

    for kind in (np.float64, np.float32, torch.tensor):
        engine = AlertEngine(only=["nan_loss", "exploding_gradients"])
        assert [c.alert.category for c in engine.feed(train(np.int64(1), loss=kind(nan)))] == ["nan_loss"]
        assert engine.feed(train(2, grad_norm=kind(500.0)))[-1].alert.evidence["grad_norm"] == 500.0


def test_alerts_after_a_resume_are_those_of_what_still_counts() -> None:
    first = [start(), *(train(s) for s in range(1, 8)), train(8, grad_norm=500.0), train(9, loss=nan)]
    again = [{"type": "resume", "step": 5}, start(), *(train(s) for s in range(6, 11))]
    assert {a.category for a in replay(first)} == {"exploding_gradients", "nan_loss"}
    assert replay([*first, *again]) == []
    kept = [{"type": "resume", "step": 8}, start(), *(train(s, grad_norm=200.0) for s in range(9, 11))]
    [alert] = replay([*first, *kept])
    assert (alert.category, alert.first_step, alert.last_step) == ("exploding_gradients", 8, 10)


def test_alerts_do_not_flap_around_a_threshold() -> None:
    noisy = [train(step, grad_norm=100 + 5 * (-1) ** step) for step in range(1, 200)]
    assert changes_of(noisy, plateau=None) == [("fired", "exploding_gradients", 2)]


def test_alerts_that_come_back_stay_quiet_for_longer_each_time() -> None:
    rows = [train(step, grad_norm=500.0 if step % 2 else 1.0) for step in range(1, 400)]
    fired = [
        step for change, _, step in changes_of(rows, plateau=None, cooldown_steps=20) if change == "fired"
    ]
    # Resolved at 2: quiet until 22. At 24: until 64. At 66: until 146. At 148: until 308.
    assert fired == [1, 23, 65, 147, 309]


def test_alerts_of_nan_never_wait() -> None:
    rows = [train(step, loss=nan if step % 2 else 1.0) for step in range(1, 9)]
    assert [change for change, _, _ in changes_of(rows)] == ["fired", "resolved"] * 4


def test_alerts_remember_a_hundred_and_every_active_one() -> None:
    engine = AlertEngine(AlertsConfig(plateau=None))
    engine.feed(start(leakage={"exact": 1, "near": 0, "samples": 10}))
    for step in range(1, 400):
        engine.feed(train(step, loss=nan if step % 2 else 1.0))
    assert len(engine.alerts) == 100
    assert [a.category for a in engine.active] == ["leakage", "nan_loss"]


def test_alerts_as_they_were_told_do_not_change_later() -> None:
    engine = AlertEngine(only=["exploding_gradients"])
    [change] = engine.feed(train(1, grad_norm=500.0))
    engine.feed(train(2, grad_norm=400.0))
    assert (change.alert.last_step, engine.active[0].last_step) == (1, 2)
    assert json.loads(orjson.dumps(change.fields()))["category"] == "exploding_gradients"


def test_alerts_open_are_the_last_row_of_each_kind() -> None:
    engine = AlertEngine()
    case = CASES["exploding_gradients"]
    rows = [c.fields() for row in [*case.fire, train(3, loss=nan), *case.clear[1:]] for c in engine.feed(row)]
    assert [a["category"] for a in active_alerts(rows[:2])] == ["exploding_gradients", "nan_loss"]
    assert active_alerts(rows) == []


# -- calibration and plateaus, by the samples of real evals ----------------------------------------


def samples(step: int, accuracy: float, confidence: float, n: int = 400) -> SampleResults:
    """10 tokens a sample in one bin; correct as often as `accuracy` says."""
    rng = np.random.default_rng(step)
    bins = np.zeros((n, 10))
    tokens, sure, right = bins.copy(), bins.copy(), bins.copy()
    column = min(9, int(confidence * 10))
    tokens[:, column] = 10
    sure[:, column] = 10 * confidence
    right[:, column] = rng.binomial(10, accuracy, size=n)
    return SampleResults(
        sample_id=np.array([str(i) for i in range(n)]),
        pattern=np.array([""] * n),
        cross_entropy_sum=rng.gamma(5, 1, n),
        tokens=np.full(n, 10),
        exact_match=right[:, column] >= 9,
        entropy_sum=np.full(n, 5.0),
        bin_tokens=tokens,
        bin_confidence=sure,
        bin_correct=right,
    )


def after_evals(gaps: list[float]) -> AlertEngine:
    """Fed with evals whose calibration is off by these gaps."""
    tests = EvalTests(AlertsConfig())
    engine = AlertEngine(only=["calibration_drift"])
    for i, gap in enumerate(gaps):
        found = samples(100 * (i + 1), 0.75, 0.75 + gap)
        numbers = summarise_samples(found)
        tests.remember(100 * (i + 1), numbers, found)
        engine.feed(fixed_eval(100 * (i + 1), **numbers, **tests.fields()))
    return engine


def test_alerts_see_a_slow_drift_of_calibration() -> None:
    """Each eval is less than a fifth above the one before it."""
    engine = after_evals([0.05 * 1.15**i for i in range(8)])
    [alert] = engine.active
    assert alert.first_step in (100, 200, 300)
    assert alert.evidence["last"] > 1.2 * alert.evidence["best"]


def test_alerts_take_noise_for_no_drift_of_calibration() -> None:
    engine = after_evals([0.05, 0.052, 0.049, 0.051, 0.05, 0.052])
    assert engine.alerts == []


def test_alerts_look_back_on_the_best_evals_of_a_long_run() -> None:
    tests = EvalTests(AlertsConfig())
    small = samples(1, 0.75, 0.76, n=20)
    for step in range(1, 80):
        numbers = summarise_samples(small) | {"expected_calibration_error": 0.01 if step == 3 else 0.2}
        tests.remember(step, numbers, small)
    kept = [e.step for e in tests._evals]
    assert len(kept) == 32
    assert 3 in kept
    assert kept[-1] == 79


# -- bad input -------------------------------------------------------------------------------------

VALUES = st.one_of(
    st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2), st.just(10**400), st.just(5e-324),
)  # fmt: skip
KEYS = sorted({key for case in CASES.values() for row in case.fire for key in row} - {"type"})
TYPES = sorted(
    {row["type"] for case in CASES.values() for row in case.fire} | {"alert", "end", "resume", "x"}
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(TYPES), st.dictionaries(st.sampled_from(KEYS), VALUES)), max_size=30)
)
def test_alerts_survive_any_record(rows: list[tuple[str, dict[str, Any]]]) -> None:
    engine = AlertEngine(AlertsConfig(loss_spike_steps=2, loss_variance_steps=2, plateau_steps=4))
    for type, fields in rows:
        engine.feed({"type": type, **fields})
    assert all(isinstance(alert, Alert) for alert in engine.alerts)


@pytest.mark.parametrize("threshold", ["loss_spike", "not_comparable", "calibration_drift"])
def test_alerts_refuse_thresholds_that_nothing_could_reach_or_clear(threshold: str) -> None:
    with pytest.raises(ValueError, match=threshold):
        AlertsConfig(**{threshold: 0.5})
