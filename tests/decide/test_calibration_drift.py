"""Drift of the calibration error: slow drift is seen, noise is not."""

from __future__ import annotations

import numpy as np
import pytest

from decide.fixed_evals import calibrated, fixed_eval
from fettle.decide.calibration import calibration_drift
from fettle.runs.records import FixedEval


def test_slow_drift_is_seen_against_the_best() -> None:
    # Each eval is at most a tenth above the one before: no look at two neighbours would tell.
    gaps = [0.05 * 1.1**k for k in range(9)]
    drift = calibration_drift([calibrated(100 * k, gap) for k, gap in enumerate(gaps)])
    assert drift is not None
    assert drift.step == 800
    assert drift.best_step < 300
    assert drift.interval[0] > 0
    assert drift.interval[0] < drift.last - drift.best < drift.interval[1]
    assert "at its best" in drift.text


def test_a_level_error_is_no_drift() -> None:
    assert calibration_drift([calibrated(100 * k, 0.1) for k in range(8)]) is None


def test_back_at_the_best_the_drift_is_over() -> None:
    drifted = [calibrated(100 * k, gap) for k, gap in enumerate([0.05, 0.05, 0.2])]
    assert calibration_drift(drifted) is not None
    assert calibration_drift([*drifted, calibrated(300, 0.05)]) is None


def test_noise_of_few_samples_is_no_drift() -> None:
    false = sum(
        calibration_drift([calibrated(100 * k, 0.03, n=15, tokens=10, seed=seed) for k in range(6)])
        is not None
        for seed in range(60)
    )
    assert false <= 6


def test_the_spread_is_that_of_fresh_samples() -> None:
    drift = calibration_drift([calibrated(0, 0.05), calibrated(1, 0.2)])
    assert drift is not None
    differences = [
        (calibrated(1, 0.2, seed=s).expected_calibration_error or 0)
        - (calibrated(0, 0.05, seed=s).expected_calibration_error or 0)
        for s in range(1, 200)
    ]
    half = (drift.interval[1] - drift.interval[0]) / 2
    assert half == pytest.approx(1.96 * np.std(differences), rel=0.25)


def test_what_was_not_measured_did_not_drift() -> None:
    assert calibration_drift([fixed_eval(1, np.ones(5)), FixedEval(step=2, cross_entropy=1.0)]) is None
    assert calibration_drift([]) is None
