"""The probability of a direction drawn at random, against draws and where it is known exactly."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import special

from fettle.lens.linear import LinearLenses
from fettle.lens.random_direction import random_direction_p, separation_p
from lens_problems import clusters

SPECTRA = {
    "even": np.ones(20),
    "falling": 1 / np.arange(1, 129.0),
    "one massive dimension": np.r_[20.0, np.ones(60)],
    "few dimensions": np.r_[np.ones(8), np.full(120, 0.01)],
}


@pytest.mark.parametrize("chance", [0.1, 1e-3, 1e-6, 1e-12])
@pytest.mark.parametrize("features", [3, 20, 400])
def test_among_even_directions_it_is_the_share_of_a_cap(features: int, chance: float) -> None:
    """There the separation is the cosine to the difference of means."""
    cosine = np.sqrt(special.betaincinv(0.5, (features - 1) / 2, 1 - 2 * chance))
    apart = np.random.default_rng(0).standard_normal((1, features))
    reached = np.array([cosine * np.linalg.norm(apart)])
    assert separation_p(reached, apart, np.ones(features))[0] == pytest.approx(chance, rel=0.25)


@pytest.mark.parametrize("along", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_it_is_the_share_of_directions_drawn(spectrum: str, along: float) -> None:
    rng = np.random.default_rng(1)
    variance = SPECTRA[spectrum]
    apart = rng.standard_normal(variance.size) * variance**along
    draws = rng.standard_normal((100_000, variance.size))
    drawn = draws @ apart / np.sqrt(draws**2 @ variance)
    for chance in (0.5, 0.3, 0.05, 2e-3):
        reached = np.quantile(drawn, [1 - chance, chance])
        above, below = separation_p(reached, np.stack([apart, apart]), variance)
        assert above == pytest.approx(chance, rel=0.25, abs=0.01 if chance > 0.1 else 0)
        assert 1 - below == pytest.approx(chance, rel=0.25, abs=0.01 if chance > 0.1 else 0)


def test_no_direction_reaches_further_than_the_best() -> None:
    rng = np.random.default_rng(2)
    variance, apart = rng.gamma(1.0, 1.0, 12), rng.standard_normal((1, 12))
    best = np.sqrt((apart**2 / variance).sum(1))
    assert separation_p(best * 1.01, apart, variance)[0] == 0
    almost, nearly = separation_p(np.repeat(best, 2) * [0.999, 0.99], np.repeat(apart, 2, 0), variance)
    assert 0 < almost < nearly < 1e-8


def test_lenses_drawn_at_random_have_the_probability_of_drawing_one() -> None:
    problem = clusters(concepts=4, features=40, texts=100, distance=3.0, per_group=1)
    rows = problem.rows("test")
    rng = np.random.default_rng(1)
    draws = rng.standard_normal((20_000, 40))
    standard = (rows.features - rows.features.mean(0)) / rows.features.std(0)
    for lens in range(4):
        positive, negative = rows.positive[lens], rows.negative(lens)
        difference = standard[positive].mean(0) - standard[negative].mean(0)
        drawn = draws @ difference / (standard @ draws.T).std(0)
        one = LinearLenses(np.zeros(40, np.float32), draws[:4].astype(np.float32), np.zeros(4, np.float32))
        weights = one.weights / rows.features.std(0)
        p = random_direction_p(replace(one, weights=weights), rows)[lens]
        assert p == pytest.approx((drawn >= drawn[lens]).mean(), abs=0.03)
