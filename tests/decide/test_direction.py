"""The arrow beside a loss."""

from __future__ import annotations

import numpy as np
import pytest

from fettle.decide.direction import average_direction, eval_direction, noisy_direction
from fettle.runs.records import FixedEval


def test_halves_are_compared_by_their_standard_errors() -> None:
    earlier, later = [1.0, 3.0, 1.0, 3.0, 2.0], [0.0, 2.0, 0.0, 2.0, 1.0]
    found = noisy_direction(np.array(earlier + later))
    assert found is not None
    assert found.change == pytest.approx(-1.0)
    # Variance 1 each, so the error is sqrt(2/5) = 0.632: one is less than two errors.
    assert found.word == "level"
    sure = noisy_direction(np.array((earlier + [2.0] * 15) + (later + [1.0] * 15)))
    assert sure is not None
    assert (sure.word, sure.rows) == ("falling", 40)


def test_only_the_window_counts_and_nan_is_left_out() -> None:
    values = np.concatenate([np.full(1000, 50.0), np.linspace(1, 2, 100)])
    values[-3] = np.nan
    found = noisy_direction(values, window=50)
    assert found is not None
    assert found.word == "rising"
    # A line of 1/99 a step between halves of 25 steps.
    assert found.change == pytest.approx(25 / 99, rel=0.05)


def test_too_few_numbers_have_no_direction() -> None:
    assert noisy_direction(np.arange(9.0)) is None
    assert noisy_direction(np.full(500, np.nan)) is None
    assert average_direction(np.arange(9.0)) is None
    assert noisy_direction(np.empty(0)) is None


def test_noise_alone_is_level_nineteen_times_of_twenty() -> None:
    rng = np.random.default_rng(0)
    words = [found.word for _ in range(400) if (found := noisy_direction(rng.standard_normal(100)))]
    assert 0.92 < words.count("level") / 400 < 0.98


def test_a_constant_is_level() -> None:
    for found in (noisy_direction(np.full(50, 0.3)), average_direction(np.full(50, 0.3))):
        assert found is not None
        assert found.word == "level"


def test_an_average_is_compared_with_itself_over_its_span() -> None:
    values = np.linspace(4.0, 1.0, 601)
    found = average_direction(values, span=300)
    assert found is not None
    assert (found.word, found.rows) == ("falling", 300)
    assert found.change == pytest.approx(-1.5)
    slow = average_direction(np.linspace(1.0, 0.995, 400))
    assert slow is not None
    assert slow.word == "level"


def test_evals_are_compared_with_the_one_before() -> None:
    def evals(*losses: float | None) -> list[FixedEval]:
        return [FixedEval(step=i, cross_entropy=loss) for i, loss in enumerate(losses)]

    assert eval_direction(evals(1.0)) is None
    assert eval_direction(evals(None, 1.0)) is None
    for losses, word in (((1.0, 0.9), "falling"), ((1.0, 1.1), "rising"), ((1.0, 0.996), "level")):
        found = eval_direction(evals(*losses))
        assert found is not None
        assert found.word == word
    found = eval_direction(evals(1.0, None, 1.5))
    assert found is not None
    assert found.change == pytest.approx(0.5)
