"""Which samples are drawn, and profiles."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.config import EvaluationConfig, evaluation_config
from fettle.errors import ConfigError
from fettle.evaluation.samples import stratified


@given(
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=200),
    st.floats(0.001, 1),
    st.one_of(st.none(), st.integers(1, 50)),
    st.integers(0, 5),
)
def test_a_share_of_each_kind_is_drawn(
    kinds: list[str], share: float, at_most: int | None, seed: int
) -> None:
    chosen = stratified(kinds, share, at_most, seed)
    assert chosen == sorted(set(chosen)) == stratified(kinds, share, at_most, seed)
    expected = max(1, -int(-len(kinds) * share // 1))
    expected = min(expected, len(kinds), at_most or len(kinds))
    assert abs(len(chosen) - expected) <= 1
    assert len(chosen) <= (at_most or len(kinds))
    if len(chosen) >= len(set(kinds)):
        drawn, all_ = Counter(kinds[i] for i in chosen), Counter(kinds)
        for kind, count in all_.items():
            assert drawn[kind] >= 1
            assert drawn[kind] <= count * len(chosen) / len(kinds) + 1


def test_the_draw_depends_on_the_seed_and_is_not_the_beginning() -> None:
    draws = {tuple(stratified(["a"] * 1000, 0.02, None, seed)) for seed in range(20)}
    assert len(draws) == 20
    assert all(max(draw) > 500 for draw in draws)


def test_flags_beat_the_profile() -> None:
    assert evaluation_config("debug", {}).max_samples == 8
    assert evaluation_config("debug", {"max_samples": 3}).max_samples == 3
    assert evaluation_config(None, {}) == EvaluationConfig()
    # Also where the flag gives what is the default.
    assert evaluation_config("quick_test", {"subset_frac": 1.0}).subset_frac == 1.0


def test_profiles_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evaluation_profiles.yaml").write_text("debug: {max_samples: 2}\nmine: {dtype: bfloat16}\n")
    assert evaluation_config("mine", {}).dtype == "bfloat16"
    assert evaluation_config("debug", {}).max_samples == 2
    assert evaluation_config("quick_test", {}).subset_frac == 0.01


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mine: {max_sample: 2}", r"unknown key 'max_sample'. Did you mean 'max_samples'"),
        ("mine: 3", "must be a section"),
        ("mine: {subset_frac: 0}", "subset_frac"),
    ],
)
def test_a_profile_that_cannot_be_used_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        evaluation_config("mine", {}, tmp_path / "own.yaml")


def test_an_unknown_profile_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="There are: full_evaluation, quick_test"):
        evaluation_config("fast", {})
