"""The ridge penalty: chosen on rows that neither train a lens nor test it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fettle.lens.problem import LensProblem, LensRows
from fettle.lens.ridge import RidgeFit, SharedBank
from fettle.metrics import area_under_curve

PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Relative to the variance of standardised features, which is 1."""
LENSES = 64
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
    scores_CN = np.ascontiguousarray(fit.lenses.scores(select.features).T)
    areas = [
        area_under_curve(scores_N[select.positive[c]], scores_N[select.negative(c)])
        for c, scores_N in enumerate(scores_CN)
    ]
    return float(np.mean(areas))
