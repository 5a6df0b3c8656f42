"""The ridge penalty: chosen on rows that neither train a lens nor test it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fettle.lens.problem import LensProblem, LensRows
from fettle.lens.ridge import RidgeFit, SharedBank
from fettle.metrics import auroc

PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Relative to the variance of standardised features, which is 1."""
LENSES = 128
"""Lenses that vote on it; one penalty serves all, so more add cost and no certainty."""


def choose_penalty(
    problem: LensProblem, penalties: Sequence[float] = PENALTIES, *, bank: SharedBank | None = None
) -> tuple[float, float]:
    """The penalty of the highest mean AUROC on the select set, and that mean.

    `bank` is that of the training rows, where it exists already.
    """
    lenses = np.unique(np.linspace(0, len(problem.concepts) - 1, LENSES).astype(int)).tolist()
    train, select = problem.rows("train").take(lenses), problem.rows("select").take(lenses)
    bank = SharedBank.of(train) if bank is None else bank.take(lenses)
    means = {penalty: _mean_auroc(RidgeFit(bank, penalty), select) for penalty in penalties}
    best = max(means, key=lambda penalty: means[penalty])
    return best, means[best]


def _mean_auroc(fit: RidgeFit, select: LensRows) -> float:
    scores_NC = fit.lenses.scores(select.features)
    return float(
        np.mean(
            [
                auroc(scores_NC[select.positive[c], c], scores_NC[select.negative(c), c]).value
                for c in range(select.lenses)
            ]
        )
    )
