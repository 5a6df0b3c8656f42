"""Mixed dtypes: safe with the guards on massive dimensions, and seen to be unsafe without them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from fettle.errors import DataError
from fettle.lens.precision import mix
from fettle.lens.problem import LensProblem
from fettle.lens.ridge import fit_ridge
from lens_problems import clusters


def bfloat16(values: np.ndarray) -> np.ndarray:
    return torch.from_numpy(values).to(torch.bfloat16).float().numpy()


def massive(concepts: int = 20) -> LensProblem:
    """Weak concepts, and ten dimensions whose small deviation about a large mean tells them well.

    In bfloat16 such a dimension is mostly rounding.
    """
    problem = clusters(concepts=concepts, texts=60, features=120, distance=2.5, seed=3)
    rng = np.random.default_rng(0)
    owner = problem.positive.toarray().argmax(1)
    told = rng.normal(0, 2, (concepts, 10))[owner] + rng.normal(0, 1, (owner.size, 10))
    features = problem.features.copy()
    features[:, :10] = 4000 + 1.5 * told
    return problem.with_features(features)


@pytest.mark.parametrize("trained_in", ["float32", "bfloat16"])
def test_the_guarded_mix_of_dtypes_is_safe(trained_in: str) -> None:
    whole = massive()
    low = bfloat16(whole.features)
    trained, used = (whole, low) if trained_in == "float32" else (whole.with_features(low), whole.features)
    found = mix(trained, used, 0.1)
    print(found.verdict)
    assert found.f1 is not None
    assert found.f1.value <= 0.03
    assert found.safe
    assert found.verdict.endswith("safe")


def test_without_the_floor_the_threshold_moves_and_the_verdict_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fettle.lens.standardise.ROUNDING", 0.0)
    whole = massive()
    found = mix(whole, bfloat16(whole.features), 0.1)
    print(found.verdict, found.auroc)
    assert found.f1 is not None
    assert found.f1.value > 0.1
    assert not found.safe
    assert "unsafe" in found.verdict


def test_differences_are_those_of_the_same_lenses_on_both() -> None:
    problem = clusters()
    used = problem.features + np.random.default_rng(0).normal(0, 0.5, problem.features.shape)
    found = mix(problem, used.astype(np.float32), 0.1)
    test = problem.rows("test")
    lenses = fit_ridge(problem.rows("train"), 0.1).lenses
    same, other = lenses.scores(test.features), lenses.scores(used[test.index])
    for lens, difference in enumerate(found.lenses):
        y = ~test.negative(lens)
        expected = sk.roc_auc_score(y, other[:, lens]) - sk.roc_auc_score(y, same[:, lens])
        assert difference.auroc == pytest.approx(expected, abs=1e-5)
    assert found.score > 0.1
    assert found.auroc is not None
    assert found.auroc.value == pytest.approx(np.mean([abs(d.auroc) for d in found.lenses]))


def test_the_same_activations_differ_in_nothing() -> None:
    problem = clusters()
    found = mix(problem, problem.features, 0.1)
    assert {(d.f1, d.auroc, d.threshold) for d in found.lenses} == {(0.0, 0.0, 0.0)}
    assert found.score == 0
    assert found.safe


def test_one_lens_in_ten_that_breaks_makes_a_mix_unsafe() -> None:
    found = mix(clusters(), clusters().features, 0.1)
    broken = replace(found, lenses=[replace(found.lenses[0], f1=-0.2), *found.lenses[1:]])
    assert not broken.safe


def test_other_texts_are_refused() -> None:
    with pytest.raises(DataError, match="extract both anew"):
        mix(clusters(), np.zeros((3, 24), np.float32), 0.1)
