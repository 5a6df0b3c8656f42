"""Which checkpoint is chosen: the earliest that cannot be told from the best, if it is on disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from decide.fixed_evals import fixed_eval, hits, loss_only
from fettle.decide import choose_checkpoint
from fettle.runs.records import Checkpoint, FixedEval


def on_disk(steps: Iterable[int]) -> list[Checkpoint]:
    return [Checkpoint(step=s, path=Path(f"checkpoints/checkpoint-{s}")) for s in steps]


def test_earliest_within_one_standard_error_of_the_best() -> None:
    rng = np.random.default_rng(0)
    base = rng.gamma(2, 0.2, 500)
    noise = [rng.normal(0, 0.05, 500) for _ in range(4)]
    levels = [0.2, 0.0006, 0.0, 0.05]
    evals = [
        fixed_eval(100 * (k + 1), base + v + (e - e.mean()))
        for k, (v, e) in enumerate(zip(levels, noise, strict=True))
    ]
    choice = choose_checkpoint(evals, on_disk([100, 200, 300, 400]))
    assert choice is not None
    # The best is 300; 200 is 0.0006 worse, and their paired standard error is about 0.003.
    assert (choice.step, choice.best_step, choice.metric) == (200, 300, "cross_entropy")
    assert choice.standard_error == pytest.approx(0.05 * np.sqrt(2 / 500), rel=0.15)
    assert choice.tied_steps == [200, 300]
    assert choice.path == Path("checkpoints/checkpoint-200")
    assert "200 is earlier" in choice.explanation


def test_one_standard_error_is_the_limit() -> None:
    nats = np.zeros(100)
    better = np.where(np.arange(100) % 2, -0.01, 0.01)  # mean 0, paired SE 0.001005
    for distance, step in ((0.0009, 1), (0.0011, 2)):
        evals = [fixed_eval(1, 1 + nats + distance), fixed_eval(2, 1 + better)]
        choice = choose_checkpoint(evals, on_disk([1, 2]))
        assert choice is not None
        assert choice.step == step


def test_pairing_matters() -> None:
    # Samples differ by whole nats, the evals by 0.01 on each of them: apart, they cannot be told.
    base = np.random.default_rng(0).gamma(2, 1.0, 300)
    evals = [fixed_eval(1, base + 0.01), fixed_eval(2, base)]
    choice = choose_checkpoint(evals, on_disk([1, 2]))
    assert choice is not None
    assert choice.step == 2


def test_exact_match_first() -> None:
    evals = [
        fixed_eval(1, np.full(200, 0.3), hits(200, 100)),
        fixed_eval(2, np.full(200, 0.9), hits(200, 150)),
    ]
    choice = choose_checkpoint(evals, on_disk([1, 2]))
    assert choice is not None
    assert (choice.step, choice.metric, choice.value) == (2, "exact_match", 0.75)


def test_cross_entropy_breaks_ties_of_exact_match() -> None:
    # All three tie by exact match; the second has clearly the lowest cross-entropy.
    evals = [
        fixed_eval(step, np.full(200, nats), hits(200, correct))
        for step, nats, correct in ((1, 0.5, 150), (2, 0.3, 149), (3, 0.4, 150))
    ]
    choice = choose_checkpoint(evals, on_disk([1, 2, 3]))
    assert choice is not None
    assert (choice.step, choice.best_step) == (2, 3)
    assert "tied with the best, 3" in choice.explanation
    assert "200" not in choice.explanation


def test_overfit_run_gets_its_early_checkpoint() -> None:
    # Exact match level while cross-entropy worsens.
    evals = [fixed_eval(k, np.full(300, 0.2 + 0.05 * k), hits(300, 240)) for k in range(1, 6)]
    evals.insert(0, fixed_eval(0, np.full(300, 1.0), hits(300, 20)))
    choice = choose_checkpoint(evals, on_disk(range(6)))
    assert choice is not None
    assert choice.step == 1


@pytest.mark.parametrize("constant", [0, 200])
def test_exact_match_that_never_differs_says_nothing(constant: int) -> None:
    evals = [fixed_eval(k, np.full(200, 1.0 / k), hits(200, constant)) for k in (1, 2, 3)]
    choice = choose_checkpoint(evals, on_disk([1, 2, 3]))
    assert choice is not None
    assert (choice.step, choice.metric) == (3, "cross_entropy")


def test_only_checkpoints_on_disk_and_says_what_is_lost() -> None:
    evals = [fixed_eval(k, np.full(50, v)) for k, v in ((1, 0.9), (2, 0.3), (3, 0.5))]
    checkpoints = [*on_disk([1, 3]), Checkpoint(step=2, path=None)]
    choice = choose_checkpoint(evals, checkpoints)
    assert choice is not None
    assert (choice.step, choice.unsaved_best_step) == (3, 2)
    assert "step 2 was better, but its checkpoint is not on disk" in choice.explanation
    assert choose_checkpoint(evals, [Checkpoint(step=2, path=None)]) is None
    assert choose_checkpoint(evals, []) is None
    assert choose_checkpoint([], checkpoints) is None


def test_checkpoint_without_an_eval_is_not_chosen() -> None:
    evals = [fixed_eval(1, np.full(50, 0.9))]
    choice = choose_checkpoint(evals, on_disk([1, 2]))
    assert choice is not None
    assert choice.step == 1


def test_foreign_run_takes_the_lowest_loss_and_says_so() -> None:
    choice = choose_checkpoint(loss_only([0.9, 0.5001, 0.5, 0.6]), on_disk([100, 200, 300, 400]))
    assert choice is not None
    assert (choice.step, choice.standard_error) == (300, 0.0)
    assert "no standard error" in choice.explanation


def test_exact_match_without_pairs_uses_its_binomial_error() -> None:
    evals = [
        FixedEval(step=s, exact_match=m, samples=400, cross_entropy=c)
        for s, m, c in ((1, 0.50, 1.0), (2, 0.79, 0.5), (3, 0.80, 0.5))
    ]
    choice = choose_checkpoint(evals, on_disk([1, 2, 3]))
    assert choice is not None
    assert choice.step == 2  # 0.80 ± 0.02


def test_nan_is_never_the_best() -> None:
    evals = [*loss_only([0.9, 0.5]), FixedEval(step=300, cross_entropy=float("nan")), FixedEval(step=400)]
    choice = choose_checkpoint(evals, on_disk([100, 200, 300, 400]))
    assert choice is not None
    assert choice.step == 200
