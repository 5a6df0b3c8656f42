"""Drift of a model that is really trained: two concepts planted among thirty, and control runs."""

import copy

import numpy as np
import pytest

from fettle.lens.drift import drift
from lens_training import CONCEPTS, activations, base_model, lens_pack, taught, written

PLANTED = [4, 11]


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_planted_concepts_lead_from_the_first_steps_and_controls_raise_no_alarm(seed: int) -> None:
    base = base_model(seed)
    pack = lens_pack(base, seed)
    rng = np.random.default_rng(seed + 5)
    neutral = [written(rng, None) for _ in range(64)]
    before = activations(base, neutral)

    controls = []
    for run in range(3):
        control = copy.deepcopy(base)
        taught(control, 50 + run + 10 * seed, list(range(CONCEPTS)), steps=30)
        controls.append((before, activations(control, neutral)))
    for run in range(3):
        others = controls[:run] + controls[run + 1 :]
        assert not drift(pack, *controls[run], others).moved.any()

    tuned, done = copy.deepcopy(base), 0
    for step in (5, 10, 30):
        taught(tuned, seed + 7 + step, PLANTED, step - done)
        done = step
        found = drift(pack, before, activations(tuned, neutral), controls)
        assert sorted(found.order[:2].tolist()) == PLANTED
        assert (found.shift[PLANTED] > 0).all()
    assert found.moved[PLANTED].all()
