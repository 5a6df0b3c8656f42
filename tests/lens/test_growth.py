"""Growth: who gets more texts, and that all are fitted on all there are."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from fettle.errors import ConfigError
from fettle.lens.graduation import Graduation
from fettle.lens.growth import Growth, Round, grow
from fettle.lens.judge import HeldOut
from fettle.lens.problem import Ints, LensProblem
from fettle.lens.ridge import RidgeFit
from lens_problems import clusters


def test_sizes_are_those_of_the_schedule() -> None:
    assert Growth().sizes() == [10, 30, 60, 90, 120, 150, 180, 200]
    assert Growth(10, (1,), 14).sizes() == [10, 11, 12, 13, 14]
    assert Growth(40, (40,), 200).sizes() == [40, 80, 120, 160, 200]
    assert Growth(5, (5,), 5).sizes() == [5]


@pytest.mark.parametrize("wrong", [{"start": 0}, {"steps": ()}, {"steps": (0,)}, {"start": 9, "cap": 8}])
def test_a_schedule_that_cannot_grow_is_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match="lens growth"):
        Growth(**wrong)


class Pool:
    """Training texts handed out as they are asked for: concepts 0 to 3 clear, 4 faint, 5 of noise."""

    def __init__(self, texts: int = 200) -> None:
        whole = clusters(concepts=6, texts=texts, features=20, per_group=1, distance=8.0)
        features = whole.features.copy()
        owner = whole.positive.toarray().argmax(1)
        features[owner == 4] *= 0.3
        shown = np.flatnonzero(owner == 5)
        features[shown] = np.random.default_rng(1).choice(features.ravel(), features[shown].shape)
        self.whole = whole.with_features(features)
        train = whole.sets["train"]
        self.train = [train[owner[train] == c] for c in range(6)]
        self.available = np.array([rows.size for rows in self.train])
        self.asked: list[Ints] = []

    def gather(self, sizes: Ints) -> LensProblem:
        self.asked.append(sizes.copy())
        train = np.concatenate([rows[:n] for rows, n in zip(self.train, sizes, strict=True)])
        return replace(self.whole, sets={**self.whole.sets, "train": np.sort(train)})


def test_only_lenses_that_have_not_graduated_get_more_texts() -> None:
    pool = Pool()
    seen: list[Round] = []
    grown = grow(pool.gather, pool.available, Growth(), Graduation(), progress=seen.append)
    states = [s.state for s in grown.standings]
    assert states[:4] == ["graduated"] * 4
    assert states[5] == "stopped"
    assert grown.standings[5].reason
    assert seen == grown.rounds
    assert len(pool.asked) == len(grown.rounds) > 1
    for before, after in zip(pool.asked[:-1], pool.asked[1:], strict=True):
        assert (after >= before).all()
        assert (after > before).any()
    # Everyone is fitted on the texts of the last round, whoever asked for them.
    assert len(grown.fit.bank.rows) == pool.asked[-1].sum() == grown.rounds[-1].texts
    assert [h.positives for h in grown.held_out] == pool.asked[-1].tolist()
    assert pool.asked[-1].sum() < pool.available.sum()


def test_growth_ends_where_texts_or_schedule_end() -> None:
    pool = Pool(texts=50)
    out_of_reach = Graduation(f1=1.01, level_rounds=99, signal_samples=999)
    grown = grow(pool.gather, pool.available, Growth(), out_of_reach)
    assert pool.asked[-1].tolist() == pool.available.tolist()
    assert all(s.reason.startswith("too few samples") for s in grown.standings)
    grow(pool.gather, pool.available, Growth(cap=12), out_of_reach)
    assert pool.asked[-1].tolist() == [12] * 6


def test_blocking_validation_is_bounded() -> None:
    pool = Pool()

    def all_weak(problem: LensProblem, fit: RidgeFit, held_out: Sequence[HeldOut]) -> list[str]:
        return ["C"] * 6

    freely = grow(pool.gather, pool.available, Growth(steps=(5,)), Graduation())
    free_sizes = pool.asked[-1].copy()
    blocked = grow(
        pool.gather, pool.available, Growth(steps=(5,)), Graduation(), grades=all_weak, blocking_rounds=2
    )
    assert (pool.asked[-1][:4] > free_sizes[:4]).all()
    assert [s.state for s in blocked.standings[:4]] == [s.state for s in freely.standings[:4]]
    assert "grade C in spite of more texts" in blocked.standings[0].reason
    assert "grade" not in freely.standings[0].reason
