"""More texts for the lenses that need them; all lenses are fitted again in every round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fettle.errors import ConfigError
from fettle.lens.graduation import Graduation, Standing
from fettle.lens.judge import HeldOut, judge_held_out
from fettle.lens.linear import LinearLenses
from fettle.lens.mixed import MixedLenses, mixed
from fettle.lens.mlp import Comparison
from fettle.lens.networks import Networks, compare_networks, fit_networks
from fettle.lens.penalty import choose_penalty
from fettle.lens.problem import Ints, LensProblem
from fettle.lens.ridge import RidgeFit, SharedBank

Grades = Sequence[str]


@dataclass(frozen=True, slots=True)
class Growth:
    """How many training texts a concept has: `start`, then `steps` more a round, the last step again."""

    start: int = 10
    steps: tuple[int, ...] = (20, 30)
    cap: int = 200

    def __post_init__(self) -> None:
        if not 0 < self.start <= self.cap or not self.steps or min(self.steps) <= 0:
            raise ConfigError(
                f"lens growth: start {self.start}, steps {self.steps}, cap {self.cap}: "
                "all must be above 0, and start at most cap"
            )

    def sizes(self) -> list[int]:
        """10, 30, 60, 90 ... 200 by default."""
        sizes = [self.start]
        while sizes[-1] < self.cap:
            step = self.steps[min(len(sizes), len(self.steps)) - 1]
            sizes.append(min(self.cap, sizes[-1] + step))
        return sizes


@dataclass(frozen=True, slots=True)
class Round:
    """One fit of all lenses on the way."""

    texts: int
    """Training texts so far."""
    graduated: int
    growing: int
    stopped: int
    penalty: float


@dataclass(frozen=True, slots=True, eq=False)
class Grown:
    """Lenses that graduated or stopped, fitted on all texts of the last round."""

    problem: LensProblem
    fit: RidgeFit
    held_out: list[HeldOut]
    standings: list[Standing]
    rounds: list[Round]
    compared: list[Comparison] = field(default_factory=list[Comparison])
    """Lenses that were tried as networks."""
    networks: Networks | None = None
    """Those that are."""

    @property
    def lenses(self) -> LinearLenses | MixedLenses:
        """All of them."""
        return mixed(self.fit.lenses, self.networks)


def grow(
    gather: Callable[[Ints], LensProblem],
    available: Ints,
    growth: Growth,
    graduation: Graduation,
    *,
    grades: Callable[[LensProblem, RidgeFit, Sequence[HeldOut]], Grades] | None = None,
    blocking_rounds: int = 3,
    progress: Callable[[Round], None] | None = None,
) -> Grown:
    """Fit, judge, gather more texts for the lenses still growing, until none is.

    `gather` gives the problem with so many training texts of each concept [C], of which there are
    `available` [C]. A graduated lens asks for no more texts, but is fitted again with the others, and
    grows again where their texts turn out to fool it.

    `grades` makes validation blocking: a lens graded C or U grows on for at most `blocking_rounds` more
    rounds, then graduates with its grade.
    """
    ladder = np.array(growth.sizes())
    sizes = np.minimum(ladder[0], available)
    blocked = np.zeros(available.size, dtype=np.int64)
    histories: list[list[HeldOut]] = [[] for _ in range(available.size)]
    standings: list[Standing] = []
    rounds: list[Round] = []
    while True:
        problem = gather(sizes)
        bank = SharedBank.of(problem.rows("train"))
        penalty = choose_penalty(problem, bank=bank)[0]
        fit = RidgeFit(bank, penalty)
        held_out = judge_held_out(fit, bank.rows)
        for history, result in zip(histories, held_out, strict=True):
            history.append(result)
        most = np.minimum(available, growth.cap)
        standings = [
            _kept(old, graduation.judge(history, bool(size < limit)))
            for old, history, size, limit in zip(
                standings or [None] * available.size, histories, sizes, most, strict=True
            )
        ]
        if grades is not None:
            standings = _blocked(
                standings, grades(problem, fit, held_out), blocked, sizes < most, blocking_rounds
            )
        rounds.append(_round(sizes, standings, penalty))
        if progress is not None:
            progress(rounds[-1])
        growing = np.array([s.state == "growing" for s in standings])
        if not growing.any():
            return Grown(problem, fit, held_out, standings, rounds)
        next_sizes = ladder[np.minimum(np.searchsorted(ladder, sizes, "right"), ladder.size - 1)]
        sizes = np.where(growing, np.minimum(next_sizes, most), sizes)


def try_networks(grown: Grown, graduation: Graduation, *, seed: int = 0) -> Grown:
    """The same with networks where those beat the linear lens on groups that neither saw."""
    rows = grown.fit.bank.rows
    compared = compare_networks(rows, grown.fit, grown.held_out, seed=seed)
    kept = [comparison for comparison in compared if comparison.kept]
    if not kept:
        return replace(grown, compared=compared)
    networks, judged = fit_networks(rows, kept, seed=seed)
    held_out, standings = list(grown.held_out), list(grown.standings)
    for comparison, result in zip(kept, judged, strict=True):
        held_out[comparison.lens] = result
        standings[comparison.lens] = graduation.judge([result], more=False)
    return replace(grown, held_out=held_out, standings=standings, compared=compared, networks=networks)


def _kept(before: Standing | None, now: Standing) -> Standing:
    """A lens that has stopped stays stopped, unless the texts of others were all it lacked."""
    stopped = before is not None and before.state == "stopped" and now.state == "growing"
    return before if stopped and before is not None else now


def _blocked(
    standings: Sequence[Standing], grades: Grades, blocked: Ints, more: np.ndarray, most_rounds: int
) -> list[Standing]:
    found: list[Standing] = []
    for c, (standing, grade) in enumerate(zip(standings, grades, strict=True)):
        weak = standing.state == "graduated" and grade in ("C", "U")
        if weak and more[c] and blocked[c] < most_rounds:
            blocked[c] += 1
            found.append(Standing("growing", f"{standing.reason}, but grade {grade}"))
        elif weak:
            found.append(Standing("graduated", f"{standing.reason}; grade {grade} in spite of more texts"))
        else:
            found.append(standing)
    return found


def _round(sizes: Ints, standings: Sequence[Standing], penalty: float) -> Round:
    states = [standing.state for standing in standings]
    return Round(
        texts=int(sizes.sum()),
        graduated=states.count("graduated"),
        growing=states.count("growing"),
        stopped=states.count("stopped"),
        penalty=penalty,
    )
