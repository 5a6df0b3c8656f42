"""Fisher's exact test against scipy's."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fettle.decide.fisher import fisher_less

counts = st.integers(0, 400)


@settings(deadline=None)
@given(correct=counts, wrong=counts, other_correct=counts, other_wrong=counts)
def test_p_values_are_those_of_scipy(correct: int, wrong: int, other_correct: int, other_wrong: int) -> None:
    table = [[correct, wrong], [other_correct, other_wrong]]
    expected = stats.fisher_exact(table, alternative="less").pvalue
    found = fisher_less(correct, correct + wrong, other_correct, other_correct + other_wrong)
    assert found == pytest.approx(expected, rel=1e-8, abs=1e-300)


def test_a_lady_who_tells_half_of_the_cups() -> None:
    assert fisher_less(1, 4, 3, 4) == pytest.approx(17 / 70)
