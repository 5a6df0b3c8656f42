"""Bias-corrected moving average of the train loss."""

import math

import numpy as np
import pytest

from fettle.metrics import StreamingCrossEntropy, ema


def test_first_value_is_the_first_loss() -> None:
    average = StreamingCrossEntropy()
    assert average.value is None
    assert average.update(3.7) == pytest.approx(3.7)


def test_equals_the_weighted_mean_it_stands_for() -> None:
    x = np.random.default_rng(0).random(50)
    average = StreamingCrossEntropy(0.1)
    for value in x:
        average.update(value)
    weights = 0.9 ** np.arange(50)[::-1]
    assert average.value == pytest.approx(np.average(x, weights=weights))


def test_default_spans_about_300_steps() -> None:
    average = StreamingCrossEntropy()
    for _ in range(5_000):
        average.update(0.0)
    for _ in range(300):
        average.update(1.0)
    # A step of 300 after a long past reaches 1 - (1 - α)^300 = 1 - e^-2.
    assert average.value == pytest.approx(1 - math.exp(-2), abs=2e-3)


def test_weight_counts_as_that_many_steps() -> None:
    one, three = StreamingCrossEntropy(0.1), StreamingCrossEntropy(0.1)
    one.update(1.0)
    three.update(1.0)
    one.update(4.0, weight=3)
    for _ in range(3):
        three.update(4.0)
    assert one.value == pytest.approx(three.value)


def test_nan_and_inf_do_not_stay_in_the_average() -> None:
    average = StreamingCrossEntropy()
    average.update(2.0)
    for poison in (math.nan, math.inf, -math.inf):
        assert average.update(poison) == 2.0


def test_restores_exactly() -> None:
    a, b = StreamingCrossEntropy(0.05), StreamingCrossEntropy()
    for value in (3.0, 2.5, 0.0):
        a.update(value)
    b.restore(a.state())
    assert [a.update(1.25), a.update(0.5)] == [b.update(1.25), b.update(0.5)]


def test_column_average_steps_over_nan() -> None:
    out = ema(np.array([math.nan, 1.0, math.nan, 3.0]), 0.5)
    assert math.isnan(out[0])
    assert out[1:].tolist() == pytest.approx([1.0, 1.0, (0.5 * 1 + 1 * 3) / 1.5])
