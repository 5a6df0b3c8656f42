"""Train loss that is no mean per token: found where it is, and only there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from decide.fixed_evals import loss_only
from fettle.decide import loss_comparability, train_loss_at
from fettle.runs import RunReader
from fettle.runs.records import FixedEval


def curves(
    train_of: Callable[[np.ndarray], np.ndarray],
    eval_of: Callable[[np.ndarray], np.ndarray],
    *,
    every: int = 10,
    eval_every: int = 100,
    steps: int = 1000,
) -> tuple[dict[str, np.ndarray], list[FixedEval]]:
    """Log rows that average the `every` steps before them, as trainers do, and evals."""
    fine = train_of(np.arange(1, steps + 1.0))
    rows = fine.reshape(-1, every).mean(1)
    train = {"step": np.arange(every, steps + 1.0, every), "loss": rows}
    at = np.arange(eval_every, steps + 1, eval_every)
    return train, [FixedEval(step=int(s), cross_entropy=float(eval_of(np.array(float(s))))) for s in at]


def falling(s: np.ndarray) -> np.ndarray:
    return 0.3 + 9 * np.exp(-s / 80)


@pytest.mark.real_data
def test_law_llm_is_found(real_data: Path) -> None:
    run = RunReader(real_data / "hf_runs" / "law-llm.trainer_state.json")
    found = loss_comparability(run.columns("train"), run.evals())
    assert found.comparable is False
    assert found.factor == 16
    assert found.ratio == pytest.approx(16.5, abs=0.3)
    assert "16 gradient accumulation steps" in found.explanation


@pytest.mark.parametrize("factor", [4, 5, 8, 16, 64])
@pytest.mark.parametrize("every", [10, 100])
def test_sum_over_accumulation_is_found(factor: int, every: int) -> None:
    train, evals = curves(lambda s: factor * falling(s), falling, every=every)
    found = loss_comparability(train, evals)
    assert found.comparable is False
    assert found.factor == factor


@pytest.mark.parametrize(
    ("name", "train_of", "eval_of"),
    [
        ("equal", falling, falling),
        ("overfit", lambda s: falling(s) * np.exp(-s / 200), lambda s: falling(s) + s / 500),
        ("dropout", lambda s: 1.6 * falling(s), falling),
        ("harder train data", lambda s: falling(s) + 0.5, falling),
        ("steep start", lambda s: 0.3 + 50 * np.exp(-s / 40), lambda s: 0.3 + 50 * np.exp(-s / 40)),
        ("to zero", lambda s: np.exp(-s / 60), lambda s: np.exp(-s / 60)),
    ],
)
@pytest.mark.parametrize("every", [10, 50, 100])
def test_no_false_alarm(name: str, train_of: Callable, eval_of: Callable, every: int) -> None:
    train, evals = curves(train_of, eval_of, every=every)
    found = loss_comparability(train, evals)
    assert found.comparable is not False, (name, found)


def test_own_runs_are_comparable_by_construction() -> None:
    # Real rows of a hard training set and an easy evaluation set: five times apart, and both per token.
    tokens = np.array([100.0, 120.0, 80.0])
    train = {
        "step": np.array([1.0, 2.0, 3.0]),
        "loss": np.array([5.0, 5.1, 4.9]),
        "completion_tokens": tokens,
    }
    train["loss_sum"] = train["loss"] * tokens
    evals = [FixedEval(step=s, cross_entropy=1.0) for s in (1, 2, 3)]
    assert loss_comparability(train, evals).comparable is True
    # Without the sums the same numbers are suspicious.
    del train["loss_sum"]
    assert loss_comparability(train, evals).comparable is False


def test_sums_that_do_not_explain_the_loss_prove_nothing() -> None:
    train = {
        "step": np.array([1.0, 2.0, 3.0]),
        "loss": np.array([16.0, 16.0, 16.0]),
        "loss_sum": np.array([100.0, 100.0, 100.0]),
        "completion_tokens": np.array([100.0, 100.0, 100.0]),
    }
    assert (
        loss_comparability(train, [FixedEval(step=s, cross_entropy=1.0) for s in (1, 2, 3)]).comparable
        is False
    )


def test_one_eval_is_too_little_to_tell() -> None:
    train = {"step": np.array([100.0]), "loss": np.array([5.0])}
    found = loss_comparability(train, loss_only([0.5]))
    assert found.comparable is None
    assert "too little" in found.explanation
    assert loss_comparability({}, loss_only([0.5])).comparable is None
    assert loss_comparability(train, []).comparable is None


def test_no_steady_factor_is_no_verdict() -> None:
    # Train loss stays at 4 while eval loss falls to 0.05: far apart, and not by summing.
    train, evals = curves(lambda s: 4.0 + 0 * s, lambda s: 1.2 * np.exp(-s / 300))
    found = loss_comparability(train, evals)
    assert found.comparable is None
    assert "no steady factor" in found.explanation


def test_train_loss_at_an_eval_is_the_mean_since_the_eval_before() -> None:
    train = {"step": np.arange(1.0, 7), "loss": np.array([6.0, 5, 4, 3, 2, 1])}
    evals = [FixedEval(step=3, cross_entropy=1.0), FixedEval(step=6, cross_entropy=1.0)]
    assert train_loss_at(train, 3, evals) == 5.0
    assert train_loss_at(train, 6, evals) == 2.0
    assert train_loss_at(train, 0, evals) is None
    weighted = {**train, "completion_tokens": np.array([1.0, 1, 1, 1, 1, 8])}
    assert train_loss_at(weighted, 6, evals) == pytest.approx((3 + 2 + 8) / 10)


def test_train_loss_skips_what_is_not_finite() -> None:
    train = {"step": np.array([1.0, 2, 3]), "loss": np.array([2.0, np.nan, 4.0])}
    assert train_loss_at(train, 3) == 4.0
    assert train_loss_at(train, 2) == 2.0
    assert train_loss_at({"step": np.array([1.0]), "loss": np.array([np.nan])}, 1) is None
    assert train_loss_at({}, 1) is None
