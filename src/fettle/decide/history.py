"""What became of every held-out sample over the evals: learned, forgotten, never learned, flip-flopping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fettle.decide.paired import pair
from fettle.runs.records import FixedEval

FLIPS = 3
"""Changes between right and wrong from which a sample flips rather than learns."""


@dataclass(frozen=True, slots=True)
class ForgottenSample:
    """A sample that was right and is wrong at the last eval."""

    sample_id: str
    last_right_step: int


@dataclass(frozen=True, slots=True)
class SampleHistory:
    """How many samples fared how, by exact match; every sample is counted once."""

    samples: int
    """Samples that all compared evals share."""
    evals: int
    always: int
    """Right at every eval."""
    learned: int
    """Wrong before, right at the last eval."""
    forgotten: int
    """Right before, wrong at the last eval."""
    never: int
    """Right at no eval."""
    flipping: int
    """Changed at least three times, whatever the last eval says."""
    forgotten_samples: list[ForgottenSample]
    """Those forgotten, the latest first."""

    @property
    def text(self) -> str:
        """`learned 212, forgotten 9, never learned 31, flip-flopping 12 (of 300 samples, 8 evals)`."""
        return (
            f"learned {self.learned}, forgotten {self.forgotten}, never learned {self.never}, "
            f"flip-flopping {self.flipping} (of {self.samples} samples, {self.evals} evals)"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "text": self.text}


Fate = Literal["always", "learned", "forgotten", "never", "flipping"]
FATES: tuple[Fate, ...] = get_args(Fate)


@dataclass(frozen=True, slots=True, eq=False)
class SampleFates:
    """What became of each sample that all compared evals share."""

    sample_id: NDArray[np.str_]
    """[N]"""
    fate: NDArray[np.str_]
    """One of `FATES`, [N]."""
    right: NDArray[np.bool_]
    """Whether the sample was right at each eval, [N, K]."""
    steps: list[int]
    """Of the K evals."""

    def count(self, fate: Fate) -> int:
        """Samples of one fate."""
        return int((self.fate == fate).sum())

    def right_steps(self, row: int) -> list[int]:
        """Evals at which one sample was right."""
        return [step for step, right in zip(self.steps, self.right[row].tolist(), strict=True) if right]


def sample_fates(evals: Sequence[FixedEval]) -> SampleFates | None:
    """Fates by exact match over the evals that hold per-sample results; None below two of them."""
    path = pair(sorted(evals, key=lambda e: e.step), "exact_match")
    if path is None or len(path.steps) < 2:
        return None
    right_NK = path.values > 0.5
    changes_N = (right_NK[:, 1:] != right_NK[:, :-1]).sum(1)
    ever_N, last_N = right_NK.any(1), right_NK[:, -1]
    cases = [changes_N >= FLIPS, ~ever_N, changes_N == 0, last_N]
    fate_N = np.select(cases, ["flipping", "never", "always", "learned"], "forgotten")
    return SampleFates(path.sample_id, fate_N, right_NK, path.steps)


def sample_history(evals: Sequence[FixedEval]) -> SampleHistory | None:
    """Histories over the evals that hold per-sample results; None below two of them."""
    fates = sample_fates(evals)
    if fates is None:
        return None
    rows: list[int] = np.flatnonzero(fates.fate == "forgotten").tolist()
    lost = [ForgottenSample(str(fates.sample_id[row]), fates.right_steps(row)[-1]) for row in rows]
    return SampleHistory(
        samples=fates.fate.size,
        evals=len(fates.steps),
        always=fates.count("always"),
        learned=fates.count("learned"),
        forgotten=len(lost),
        never=fates.count("never"),
        flipping=fates.count("flipping"),
        forgotten_samples=sorted(lost, key=lambda s: -s.last_right_step),
    )
