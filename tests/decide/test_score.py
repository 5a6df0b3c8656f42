"""The composite score: its published numbers, and the defects it must not have."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.decide import SCORE_VERSION, checkpoint_score, compare_checkpoints


@pytest.mark.parametrize(
    ("eval_loss", "train_loss", "improved", "expected"),
    [(0.5, 0.45, True, 0.188244), (0.4, 0.1, False, 0.432459)],
)
def test_published_fixtures(eval_loss: float, train_loss: float, improved: bool, expected: float) -> None:
    assert checkpoint_score(eval_loss, train_loss, improved).score == pytest.approx(expected, abs=5e-7)


def test_published_log_line() -> None:
    eval_loss, relative_gap = 2.31566, 0.02559
    for train_loss in (eval_loss * (1 - relative_gap), eval_loss * (1 + relative_gap)):
        score = checkpoint_score(eval_loss, train_loss, False)
        assert score.components["eval"] == pytest.approx(1.15783)
        assert score.components["gap"] == pytest.approx(0.3 * relative_gap)
        assert score.components["perplexity"] == pytest.approx(0.1 * math.exp(2.31566) / 20)
        assert score.score == pytest.approx(1.216165, abs=1e-6)


def test_carries_inputs_components_and_version() -> None:
    score = checkpoint_score(0.5, 0.45, True)
    assert score.inputs == {"eval_loss": 0.5, "train_loss": 0.45, "improved": 1.0}
    assert set(score.components) == {"eval", "gap", "perplexity", "bonus"}
    assert sum(score.components.values()) == score.score
    assert score.version == SCORE_VERSION
    assert score.reason is None


def test_worse_checkpoint_no_longer_beats_the_best() -> None:
    """E = 1.15 after an improving eval once beat the best, E = 1.00, rescored without its bonus."""
    best = checkpoint_score(1.00, 1.02, improved=True)
    challenger = checkpoint_score(1.15, 1.10, improved=False)  # it did not beat 1.00
    assert compare_checkpoints(best, challenger) == "a"
    assert compare_checkpoints(challenger, best) == "b"
    # What the failing rule compared: gap and bonus forgotten for one, a late bonus for the other.
    assert 0.5 * 1.15 + 0.3 * 0.05 / 1.15 + 0.1 * math.exp(1.15) / 20 - 0.1 < 0.5 + 0.1 * math.exp(1) / 20


def test_bonus_if_and_only_if_this_eval_improved() -> None:
    assert checkpoint_score(1.0, 1.0, True).components["bonus"] == -0.1
    assert checkpoint_score(1.0, 1.0, False).components["bonus"] == 0.0
    assert checkpoint_score(1.0, 1.0, None).components["bonus"] == 0.0  # the first eval beat nothing


@pytest.mark.parametrize(
    ("eval_loss", "train_loss", "reason"),
    [
        (None, 0.5, "eval loss was not measured"),
        (0.5, None, "train loss was not measured"),
        (math.nan, 0.5, "eval loss is nan"),
        (0.5, math.inf, "train loss is inf"),
    ],
)
def test_missing_input_is_incomparable_not_better(
    eval_loss: float | None, train_loss: float | None, reason: str
) -> None:
    score = checkpoint_score(eval_loss, train_loss, True)
    assert score.score is None
    assert score.components == {}
    assert score.reason == reason
    terrible = checkpoint_score(1e4, 1e5, False)
    assert compare_checkpoints(score, terrible) == "incomparable"
    assert compare_checkpoints(terrible, score) == "incomparable"
    assert all(v is None or math.isfinite(v) for v in score.inputs.values())


def test_zero_is_a_value() -> None:
    score = checkpoint_score(0.0, 0.0, False)
    assert score.score == pytest.approx(0.1 / 20)
    # max(E, 0.001) keeps the gap finite.
    assert checkpoint_score(0.0, 0.001, False).components["gap"] == pytest.approx(0.3)


def test_exp_does_not_overflow() -> None:
    assert checkpoint_score(1e6, 1e6, False).components["perplexity"] == 0.1
    below = checkpoint_score(math.log(20) - 1e-9, 3.0, False).components["perplexity"]
    assert below == pytest.approx(0.1, abs=1e-9)


def test_tie_and_versions() -> None:
    a = checkpoint_score(0.5, 0.45, True)
    assert compare_checkpoints(a, checkpoint_score(0.5, 0.45, True)) == "tie"
    other = type(a)(a.score, a.components, a.inputs, version="composite-0")
    assert compare_checkpoints(a, other) == "incomparable"


losses = st.floats(0, 20)


@given(st.lists(st.tuples(losses, losses, st.booleans()), min_size=3, max_size=3))
def test_comparison_is_an_order(rows: list[tuple[float, float, bool]]) -> None:
    scores = [checkpoint_score(*row) for row in rows]
    for a, b, c in itertools.permutations(scores):
        if compare_checkpoints(a, b) in ("a", "tie") and compare_checkpoints(b, c) in ("a", "tie"):
            assert compare_checkpoints(a, c) in ("a", "tie")
