"""Drift: planted shifts are found, controls raise no alarm, lost concepts are told from moved ones."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sk

from fettle.errors import DataError
from fettle.lens.drift import Drift, drift, readings
from lens_problems import clusters, pack_of

PROBLEM = clusters(concepts=30, features=80, distance=5.0)
PACK = pack_of(PROBLEM)


def neutral(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, 1, (100, 80)).astype(np.float32)


def trained(
    base: np.ndarray, rng: np.random.Generator, planted: dict[int, float] | None = None
) -> np.ndarray:
    """What any training does, a random shift and scatter, and so many deviations of some concepts."""
    shift = rng.normal(0, 0.1, 80)
    for lens, amount in (planted or {}).items():
        weights = PACK.lenses.weights[lens]
        shift += amount * PACK.negative_deviation[lens] * weights / (weights @ weights)
    return (base + shift + rng.normal(0, 0.2, base.shape)).astype(np.float32)


def controls(rng: np.random.Generator, runs: int) -> list[tuple[np.ndarray, np.ndarray]]:
    bases = [neutral(rng) for _ in range(runs)]
    return [(base, trained(base, rng)) for base in bases]


@pytest.mark.parametrize("runs", [0, 4])
def test_planted_concepts_come_first_in_their_size(runs: int) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        base = neutral(rng)
        found = drift(PACK, base, trained(base, rng, {4: 1.5, 11: -1.5}), controls(rng, runs))
        assert set(found.order[:2].tolist()) == {4, 11}
        assert np.flatnonzero(found.moved).tolist() == [4, 11]
        assert found.shift[4] == pytest.approx(1.5, abs=0.4)
        assert found.shift[11] == pytest.approx(-1.5, abs=0.4)


@pytest.mark.parametrize("runs", [0, 3])
def test_training_that_teaches_nothing_raises_no_alarm(runs: int) -> None:
    rng = np.random.default_rng(7)
    alarms = 0
    for _ in range(100):
        base = neutral(rng)
        alarms += bool(drift(PACK, base, trained(base, rng), controls(rng, runs)).moved.any())
    assert alarms <= 8  # 5 % of runs: 5 of 100, and their chance.


def test_shift_and_interval_are_those_of_the_texts() -> None:
    rng = np.random.default_rng(3)
    base = neutral(rng)
    later = trained(base, rng, {4: 1.0})
    found = drift(PACK, base, later)
    change = (PACK.evidence(later) - PACK.evidence(base)).astype(np.float64)
    np.testing.assert_allclose(found.changes, change, atol=1e-4)
    np.testing.assert_allclose(found.shift, change.mean(0), atol=1e-5)
    half = 1.96 * change.std(0, ddof=1) / 10
    np.testing.assert_allclose(found.high - found.shift, half, rtol=0.2)
    np.testing.assert_allclose(found.shift - found.low, half, rtol=0.2)
    top = found.examples(4, 3)
    assert top.tolist() == np.argsort(-change[:, 4])[:3].tolist()
    assert drift(PACK, base, later).p.tolist() == found.p.tolist()  # The same draws each time.


def test_a_checkpoint_like_its_base_moved_nothing() -> None:
    base = neutral(np.random.default_rng(0))
    found = drift(PACK, base, base)
    assert not found.moved.any()
    assert found.shift.tolist() == [0.0] * 30
    assert found.p.tolist() == [1.0] * 30


def test_few_lenses_without_controls_are_ranked_but_not_judged() -> None:
    few = replace(
        PACK,
        lenses=replace(PACK.lenses, weights=PACK.lenses.weights[:4], bias=PACK.lenses.bias[:4]),
        negative_deviation=PACK.negative_deviation[:4],
    )
    rng = np.random.default_rng(0)
    base = neutral(rng)
    found: Drift = drift(few, base, trained(base, rng, {2: 3.0}))
    assert np.isnan(found.effect).all()
    assert not found.moved.any()
    assert found.order[0] == 2
    judged = drift(few, base, trained(base, rng, {2: 3.0}), controls(rng, 4))
    assert judged.order[0] == 2
    assert judged.moved[2]


def test_other_texts_are_refused() -> None:
    with pytest.raises(DataError, match="100 texts of the base model and 99"):
        drift(PACK, np.zeros((100, 80), np.float32), np.zeros((99, 80), np.float32))


def test_a_concept_written_elsewhere_is_told_from_one_that_is_lost() -> None:
    """All features turned about; and concept 0 emptied."""
    rng = np.random.default_rng(0)
    turned, _ = np.linalg.qr(rng.standard_normal((80, 80)))
    moved = PROBLEM.with_features((PROBLEM.features @ turned).astype(np.float32))
    owner = PROBLEM.positive.toarray().argmax(1)
    emptied = PROBLEM.features.copy()
    emptied[owner == 0] = emptied[rng.choice(np.flatnonzero(owner != 0), (owner == 0).sum())]
    same = readings(PACK.lenses, 0.1, PROBLEM)
    elsewhere = readings(PACK.lenses, 0.1, moved)
    lost = readings(PACK.lenses, 0.1, PROBLEM.with_features(emptied))
    test = PROBLEM.rows("test")
    scores = PACK.lenses.scores(test.features)
    for lens in range(30):
        expected = sk.roc_auc_score(~test.negative(lens), scores[:, lens])
        assert same[lens].frozen_auroc == pytest.approx(expected)
        assert same[lens].cosine == pytest.approx(1, abs=1e-4)
        assert same[lens].refit_auroc == pytest.approx(expected, abs=1e-6)
        assert abs(elsewhere[lens].cosine) < 0.5
        assert elsewhere[lens].refit_auroc > 0.8
    assert np.mean([r.frozen_auroc for r in elsewhere]) < 0.7
    assert lost[0].refit_auroc < 0.75
    assert lost[1].frozen_auroc > 0.9
