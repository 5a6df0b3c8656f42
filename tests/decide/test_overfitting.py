"""Overfitting: eval loss up from its best while train loss goes on down."""

import numpy as np
import pytest

from decide.fixed_evals import loss_only
from fettle.decide import trend
from fettle.decide.overfitting import overfitting

RISING = [1.0, 0.5, 0.4, 0.5, 0.6, 0.7]


def train(losses: list[float]) -> dict[str, np.ndarray]:
    return {"step": np.arange(100.0, 100 * len(losses) + 1, 100), "loss": np.array(losses)}


def test_rising_eval_and_falling_train() -> None:
    evals = loss_only(RISING)
    found = overfitting(evals, train([1.0, 0.5, 0.3, 0.2, 0.1, 0.05]), trend(evals, "cross_entropy"))
    assert found is not None
    assert found.since_step == 300
    assert found.cross_entropy_rise == pytest.approx(0.3)
    assert found.train_loss_fall == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("evals", "losses"),
    [
        (RISING, [1.0, 0.5, 0.4, 0.6, 0.8, 0.9]),  # both rise: it diverges
        ([1.0, 0.8, 0.6, 0.5, 0.4, 0.3], [1.0, 0.5, 0.3, 0.2, 0.1, 0.05]),  # eval still falls
        (RISING, []),  # train loss unknown
    ],
)
def test_not_overfitting(evals: list[float], losses: list[float]) -> None:
    rows = loss_only(evals)
    assert overfitting(rows, train(losses), trend(rows, "cross_entropy")) is None
