"""Which examples make up which step, how far ahead steps are submitted, and at what learning rate."""

from collections.abc import Sequence as Collection

import numpy as np
import pytest

from fettle.data import Sequence
from fettle.errors import ConfigError
from fettle.train.backend import StepResult
from fettle.train.order import BatchOrder
from fettle.train.pipeline import run_steps
from fettle.train.schedule import learning_rate_schedule

LENGTHS = np.random.default_rng(0).integers(5, 300, 103)


def order(**settings: object) -> BatchOrder:
    return BatchOrder(LENGTHS, **{"examples_per_step": 8, "epochs": 3, "seed": 1, **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize("bucketed", [True, False])
def test_every_example_comes_once_an_epoch(bucketed: bool) -> None:
    plan = order(bucketed=bucketed)
    assert (plan.steps_per_epoch, plan.total_steps) == (13, 39)
    for epoch in range(3):
        steps = range(1 + 13 * epoch, 14 + 13 * epoch)
        assert sorted(np.concatenate([plan.batch(s) for s in steps])) == list(range(103))
    assert plan.ends_epoch(13)
    assert not plan.ends_epoch(14)


def test_batches_depend_on_seed_and_step_alone() -> None:
    forward = [order().batch(step).tolist() for step in range(1, 40)]
    plan = order()
    backward = [plan.batch(step).tolist() for step in range(39, 0, -1)][::-1]
    assert forward == backward
    assert forward[:13] != forward[13:26]
    assert forward != [order(seed=2).batch(step).tolist() for step in range(1, 40)]


def test_buckets_hold_like_lengths() -> None:
    def padding(plan: BatchOrder) -> float:
        batches = [LENGTHS[plan.batch(step)] for step in range(1, 14)]
        return sum(b.max() * b.size - b.sum() for b in batches) / LENGTHS.sum()

    assert padding(order()) < 0.1
    assert padding(order(bucketed=False)) > 0.3


def test_the_position_says_which_batch_comes_next() -> None:
    plan = order()
    assert plan.position(0) == {"seed": plan.position(0)["seed"], "epoch": 0, "batch": 0}
    assert plan.position(12)["batch"] == 12
    assert {**plan.position(13), "seed": 0} == {"seed": 0, "epoch": 1, "batch": 0}


def test_max_steps_ends_within_an_epoch() -> None:
    assert order(max_steps=5).total_steps == 5
    assert order(max_steps=500).total_steps == 39


class Ahead:
    """A backend that runs when its result is asked for, as a service would."""

    lookahead = 1

    def __init__(self) -> None:
        self.submitted: list[int] = []
        self.read: list[int] = []

    def step(
        self, batch: Collection[Sequence], learning_rate: float, *, read_layers: bool = False
    ) -> "Ahead":
        self.submitted.append(round(learning_rate))
        if read_layers:
            self.read.append(round(learning_rate))
        return self

    def result(self) -> StepResult:
        return StepResult(1.0, 1, 1, 0.1)


def test_steps_run_one_ahead_and_never_past_a_boundary() -> None:
    backend, stop = Ahead(), False
    seen: list[tuple[int, int]] = []
    ahead: list[int] = []
    steps = run_steps(
        backend,  # type: ignore[arg-type]
        first=1,
        last=12,
        batch=lambda step: [],
        learning_rate=float,
        boundary=lambda step: step % 5 == 0,
        read_layers=lambda step: step == 3,
        stopping=lambda step: stop,
    )
    for done in steps:
        seen.append((done.step, backend.submitted[-1]))
        ahead.append(done.ahead)
        stop = stop or done.step == 7
    assert seen[:6] == [(1, 2), (2, 3), (3, 4), (4, 5), (5, 5), (6, 7)]
    # The step that was ahead when the stop came is still yielded: its weights are in the model.
    assert seen[6:] == [(7, 8), (8, 8)]
    assert ahead == [1, 1, 1, 1, 0, 1, 1, 0]
    assert backend.submitted == list(range(1, 9))
    assert backend.read == [3]


@pytest.mark.parametrize("name", ["constant_with_warmup", "linear", "cosine", "polynomial", "inverse_sqrt"])
def test_learning_rates_equal_those_of_the_trainers_scheduler(name: str) -> None:
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2e-4)
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=3, num_training_steps=30)
    rate = learning_rate_schedule(name, peak=2e-4, warmup_ratio=0.1, total_steps=30)
    for step in range(1, 31):
        assert rate(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        scheduler.step()


def test_a_schedule_that_needs_the_loss_is_refused() -> None:
    with pytest.raises(ConfigError, match="reduce_lr_on_plateau"):
        learning_rate_schedule("reduce_lr_on_plateau", peak=1.0, warmup_ratio=0, total_steps=10)
