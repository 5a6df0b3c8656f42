"""The sign of overfitting: eval loss rising from its best while train loss still falls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.decide.comparability import train_loss_at
from fettle.decide.trend import Trend
from fettle.runs.records import FixedEval


@dataclass(frozen=True, slots=True)
class Overfitting:
    """Eval loss against train loss, each compared with itself only, so that their scales may differ."""

    since_step: int
    """The best eval; from here on the two part."""
    cross_entropy_rise: float
    """Nats per token, from the best eval to the last."""
    train_loss_fall: float
    """As logged, over the same steps."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def overfitting(
    evals: Sequence[FixedEval], train: Mapping[str, NDArray[np.float64]], cross_entropy: Trend
) -> Overfitting | None:
    """Overfitting where cross-entropy regressed (tested, or plain to see) and train loss went on falling."""
    regressed = cross_entropy.state == "regressing" or cross_entropy.direction == "regressing"
    if not regressed or cross_entropy.since_step is None or cross_entropy.effect is None:
        return None
    best, last = cross_entropy.since_step, max(e.step for e in evals)
    before, after = train_loss_at(train, best, evals), train_loss_at(train, last, evals)
    if before is None or after is None or after >= before:
        return None
    return Overfitting(best, cross_entropy.effect, before - after)
