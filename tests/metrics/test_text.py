"""Character error rate and its companions, against a slow table, RapidFuzz and hand-worked texts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.metrics.text import character_error_rate, edit_distance, length_ratio, text_match, word_overlap


def table_distance(a: str, b: str) -> int:
    """Levenshtein's distance as the textbook has it."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        above, row = row, [i]
        for j, y in enumerate(b, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (x != y)))
    return row[-1]


@given(st.text(alphabet="abß🙂 ", max_size=80), st.text(alphabet="abß🙂 ", max_size=80))
def test_edit_distance_is_that_of_the_table(a: str, b: str) -> None:
    assert edit_distance(a, b) == table_distance(a, b)


def test_edit_distance_of_long_texts_is_that_of_rapidfuzz() -> None:
    levenshtein = pytest.importorskip("rapidfuzz.distance").Levenshtein
    rng = random.Random(0)
    for _ in range(20):
        a = "".join(rng.choices("abcdefgh ", k=rng.randint(0, 3000)))
        b = "".join(c for c in a if rng.random() > 0.1) + "".join(rng.choices("abc", k=rng.randint(0, 500)))
        assert edit_distance(a, b) == levenshtein.distance(a, b)


def test_character_error_rate_by_hand() -> None:
    assert character_error_rate("kitten", "sitting") == pytest.approx(3 / 7)
    assert character_error_rate("same", "same") == 0.0
    assert character_error_rate("", "four") == 1.0
    assert character_error_rate("a" * 100, "b") == 1.0  # never above 1
    assert character_error_rate("", "") == 0.0
    assert character_error_rate("x", "") == 1.0


def test_match_is_without_regard_to_case_and_outer_space() -> None:
    assert text_match(" Paris\n", "paris")
    assert not text_match("Par is", "Paris")
    assert text_match("", " ")


def test_length_ratio_and_word_overlap_by_hand() -> None:
    assert length_ratio("abcdef", "abc") == 2.0
    assert length_ratio("", "abc") == 0.0
    assert length_ratio("abc", "") is None
    assert word_overlap("the The red sea", "The sea is red") == 1.0  # {the, red, sea}: each word once
    assert word_overlap("blue sea", "the sea") == 0.5
    assert word_overlap("sea", "") == 0.0
    assert word_overlap("  ", "sea") is None
