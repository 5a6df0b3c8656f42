"""Which of several results to use: the same choice that the verdict of a run makes."""

from __future__ import annotations

import numpy as np
import pytest

from fettle.decide.best_result import best_result
from fettle.decide.choice import choose_checkpoint
from fettle.decide.paired import SampleValues, sample_values
from fettle.runs.records import Checkpoint, FixedEval, SampleResults


def results(right: np.ndarray, sums: np.ndarray) -> SampleResults:
    n = right.size
    nothing = np.zeros((n, 10))
    return SampleResults(
        sample_id=np.array([f"{i}" for i in range(n)]), pattern=np.full(n, "other"), cross_entropy_sum=sums,
        tokens=np.full(n, 5), exact_match=right, entropy_sum=np.zeros(n), bin_tokens=nothing,
        bin_confidence=nothing, bin_correct=nothing,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_it_chooses_as_the_verdict_of_a_run_does(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = np.random.default_rng(seed)
    n, k = 120, 6
    skill, level = rng.random(n), rng.gamma(2, 1.0, n)
    tables = [
        results(skill < rng.uniform(0.5, 0.6) + 0.05 * rng.standard_normal(n), level + rng.normal(0, 0.3, n))
        for _ in range(k)
    ]
    evals = [
        FixedEval(
            step=10 * (i + 1), exact_match=float(t.exact_match.mean()), samples=n, per_sample=t,
            cross_entropy=float(t.cross_entropy_sum.sum() / t.tokens.sum()),
        )
        for i, t in enumerate(tables)
    ]  # fmt: skip
    path = tmp_path_factory.getbasetemp()
    expected = choose_checkpoint(evals, [Checkpoint(step=e.step, path=path) for e in evals])
    assert expected is not None
    named = {f"{e.step}": t for e, t in zip(evals, tables, strict=True)}
    found = best_result(
        {name: sample_values(t, "exact_match") for name, t in named.items()},
        lower_is_better=False,
        cross_entropy={name: sample_values(t, "cross_entropy") for name, t in named.items()},
    )
    assert found is not None
    assert found.name == f"{expected.step}"
    assert found.value == pytest.approx(expected.value)
    # Of two that are exactly equal either may be called the best.
    assert named[found.best].exact_match.mean() == expected.best_value


def test_what_cannot_be_paired_has_no_best() -> None:
    nothing = SampleValues(np.array(["a"]), np.array([np.nan]), np.ones(1))
    assert best_result({"x": nothing}, lower_is_better=True) is None
    assert best_result({}, lower_is_better=True) is None
