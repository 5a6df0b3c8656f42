"""Discriminability: 0 is random and 1 perfect; every grade can be reached, none by chance."""

import numpy as np
import pytest

from fettle.metrics.discriminability import discriminability, rank_v1


@pytest.mark.parametrize("lenses", [2, 3, 14, 400, 8000])
def test_every_grade_can_be_reached_with_any_number_of_lenses(lenses: int) -> None:
    first, last = np.ones(20), np.zeros(20)
    perfect = discriminability(first, lenses)
    worst = discriminability(last, lenses)
    assert perfect is not None
    assert worst is not None
    assert (perfect.value, perfect.grade(lenses)) == (1.0, "A")
    assert (worst.value, worst.grade(lenses)) == (-1.0, "C")
    some = discriminability(np.repeat([1.0, 0.0], [90, 30]), lenses)
    assert some is not None
    assert (some.value, some.grade(lenses)) == (0.5, "B")
    few = discriminability(np.ones(19), lenses)
    assert few is not None
    assert few.grade(lenses) == "U"


@pytest.mark.parametrize("lenses", [2, 3, 5, 14, 100, 1000])
@pytest.mark.parametrize("texts", [20, 60])
def test_random_scores_are_zero_on_average_and_never_above_c(lenses: int, texts: int) -> None:
    rng = np.random.default_rng(lenses * texts)
    below = rng.integers(0, lenses, (1500, texts)) / (lenses - 1)
    found = [discriminability(row, lenses) for row in below]
    assert np.mean([d.value for d in found if d]) == pytest.approx(0, abs=0.02)
    # The bound of 1 % a pack lets 15 / lenses of these 1,500 through on average, at most.
    above = sum(d.grade(lenses) in "AB" for d in found if d)
    assert above <= {2: 2, 3: 1}.get(lenses, 0)


def test_the_interval_covers_the_truth() -> None:
    """Ranks that are 1 three times in four and anything otherwise; truth 2 · 0.875 - 1."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        below = np.where(rng.random(30) < 0.75, 1.0, rng.random(30))
        found = discriminability(below, 100)
        assert found is not None
        covered += found.low <= 0.75 <= found.high
    assert covered >= 380


def test_texts_of_one_group_count_as_few() -> None:
    below = np.repeat([1.0, 0.2, 1.0, 0.9, 1.0], 8)
    alone = discriminability(below, 50)
    grouped = discriminability(below, 50, np.arange(5).repeat(8))
    assert alone is not None
    assert grouped is not None
    assert grouped.value == alone.value
    assert grouped.low < alone.low - 0.2
    assert grouped.p_random > alone.p_random


def test_nothing_to_rank_is_none() -> None:
    assert discriminability(np.array([]), 5) is None
    assert discriminability(np.ones(20), 1) is None


def test_rank_v1_is_the_earlier_score_with_its_flaw() -> None:
    # 14 definitions: .769 at best and .231, a B, at worst.
    scores = np.arange(14.0)
    assert rank_v1(scores, 13) == (pytest.approx(0.769, abs=5e-4), "A")
    assert rank_v1(scores, 0) == (pytest.approx(0.231, abs=5e-4), "B")
    rng = np.random.default_rng(0)
    drawn = [rank_v1(rng.random(14), 0) for _ in range(500)]
    assert np.mean([score for score, _ in drawn]) == pytest.approx(0.5, abs=0.02)
    for n in range(6, 40):
        assert rank_v1(np.arange(float(n)), 0)[1] == "B"
    assert rank_v1(np.arange(4.0), 0)[1] == "C"
