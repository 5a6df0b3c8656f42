"""Near-duplicates: all of them and only they, beside comparing every pair."""

from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.data.near_duplicates import near_duplicates

WORDS = "a b c d e f".split()


def ngrams(text: str) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


def by_pairs(indexed: list[str], asked: list[str]) -> list[list[int]]:
    sets = [ngrams(text) for text in indexed]

    def near(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> bool:
        return bool(one | other) and len(one & other) * 5 >= len(one | other) * 4

    return [[i for i, own in enumerate(sets) if own and near(own, ngrams(text))] for text in asked]


texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=30).map(" ".join)


@st.composite
def alike(draw: st.DrawFn) -> list[str]:
    """Texts, and copies of them with an end cut off, a word changed, or words added."""
    found = draw(st.lists(texts, min_size=1, max_size=12))
    for text in list(found):
        words = text.split()
        at = draw(st.integers(0, len(words) - 1))
        found.append(" ".join(words[at // 3 :]))
        found.append(" ".join([*words[:at], draw(st.sampled_from(WORDS)), *words[at + 1 :]]))
        found.append(" ".join([*words, *draw(st.lists(st.sampled_from(WORDS), max_size=4))]))
    return found


@settings(max_examples=40, deadline=None)
@given(alike(), alike())
def test_all_near_duplicates_are_found_and_no_others(indexed: list[str], asked: list[str]) -> None:
    assert near_duplicates(indexed, asked) == by_pairs(indexed, asked)
    assert near_duplicates(indexed, indexed) == by_pairs(indexed, indexed)


def test_just_at_the_bound() -> None:
    long = " ".join(f"w{i}" for i in range(14))
    # 10 shingles, of which the shorter has 8, and the shortest 7.
    shorter, shortest = " ".join(long.split()[2:]), " ".join(long.split()[3:])
    assert near_duplicates([long], [shorter, shortest, "w1 w2 w3 w4", long.upper()]) == [[0], [], [], [0]]
