"""What became of every held-out sample over the evals: learned, forgotten, never learned, flip-flopping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

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


def sample_history(evals: Sequence[FixedEval]) -> SampleHistory | None:
    """Histories over the evals that hold per-sample results; None below two of them."""
    path = pair(sorted(evals, key=lambda e: e.step), "exact_match")
    if path is None or len(path.steps) < 2:
        return None
    right_NK = path.values > 0.5
    changes_N = (right_NK[:, 1:] != right_NK[:, :-1]).sum(1)
    ever_N, last_N = right_NK.any(1), right_NK[:, -1]
    flipping_N = changes_N >= FLIPS
    settled_N = (changes_N > 0) & ~flipping_N
    forgotten = np.flatnonzero(settled_N & ~last_N)
    steps_K = np.array(path.steps)
    lost = [
        ForgottenSample(str(path.sample_id[i]), int(steps_K[np.flatnonzero(right_NK[i])[-1]]))
        for i in forgotten.tolist()
    ]
    return SampleHistory(
        samples=path.samples,
        evals=len(path.steps),
        always=int(right_NK.all(1).sum()),
        learned=int((settled_N & last_N).sum()),
        forgotten=len(lost),
        never=int((~ever_N).sum()),
        flipping=int(flipping_N.sum()),
        forgotten_samples=sorted(lost, key=lambda s: -s.last_right_step),
    )
