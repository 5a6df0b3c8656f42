"""Probabilities of lenses, and how far they can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fettle.lens.mixed import Scoring
from fettle.lens.problem import LensRows
from fettle.metrics import Platt, brier_score, expected_calibration_error, platt_scaling


@dataclass(frozen=True, slots=True)
class Believability:
    """How well probabilities agree with what was found; None without rows."""

    brier: float | None
    expected_calibration_error: float | None


def fit_probabilities(lenses: Scoring, rows: LensRows) -> list[Platt | None]:
    """Platt's sigmoid of each lens on the calibrate set; None for a lens without both classes there."""
    scores_NC = lenses.scores(rows.features)
    return [platt_scaling(*rows.split(scores_NC, c)) for c in range(rows.lenses)]


def judge_probabilities(
    lenses: Scoring, platts: Sequence[Platt | None], rows: LensRows
) -> list[Believability]:
    """Brier score and expected calibration error of each lens on other rows, at their own prevalence."""
    scores_NC = lenses.scores(rows.features)
    return [_judged(platt, scores_NC[:, c], rows, c) for c, platt in enumerate(platts)]


def _judged(platt: Platt | None, scores_N: np.ndarray, rows: LensRows, lens: int) -> Believability:
    if platt is None:
        return Believability(None, None)
    shown_N = np.zeros(len(rows), dtype=np.bool_)
    shown_N[rows.positive[lens]] = True
    counted_N = shown_N | rows.negative(lens)
    prevalence = float(shown_N[counted_N].mean()) if counted_N.any() else 0.0
    if not 0 < prevalence < 1:
        return Believability(None, None)
    probability = platt.probability(scores_N[counted_N], prevalence)
    return Believability(
        brier_score(probability, shown_N[counted_N]),
        expected_calibration_error(probability, shown_N[counted_N]),
    )
