"""Wilson interval against SciPy; estimates of shares at their ends."""

import pytest
from scipy import stats

from fettle.metrics import wilson_interval


@pytest.mark.parametrize(
    ("successes", "n"), [(0, 1), (0, 40), (1, 1), (7, 10), (40, 40), (163, 200), (1630, 2000)]
)
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_wilson_equals_scipy(successes: int, n: int, confidence: float) -> None:
    expected = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert wilson_interval(successes, n, confidence) == pytest.approx(
        (expected.low, expected.high), abs=1e-12
    )


def test_wilson_of_the_published_screen() -> None:
    # 81.5 % of 2,000 is 81.5 ± 1.7 points.
    low, high = wilson_interval(1630, 2000) or (0, 0)
    assert (high - low) / 2 == pytest.approx(0.017, abs=5e-4)


def test_wilson_ends_are_exact_and_have_width() -> None:
    low, high = wilson_interval(0, 30) or (1, 0)
    assert low == 0.0
    assert high > 0.05
    low, high = wilson_interval(30, 30) or (1, 0)
    assert low < 0.95
    assert high == 1.0


def test_no_samples_have_no_interval() -> None:
    assert wilson_interval(0, 0) is None
