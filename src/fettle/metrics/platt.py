"""Scores to probabilities: Platt's sigmoid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]

STEPS = 100
RIDGE = 1e-12
"""Keeps the Hessian of constant scores invertible."""


@dataclass(frozen=True, slots=True)
class Platt:
    """Probability σ(slope · score + intercept), at the prevalence it was fitted at."""

    slope: float
    intercept: float
    prevalence: float

    def probability(self, scores: Scores, prevalence: float | None = None) -> NDArray[np.float64]:
        """Of being positive; at another prevalence the log-odds shift by the difference of log-odds."""
        from scipy import special

        logit = self.slope * np.asarray(scores, dtype=np.float64) + self.intercept
        if prevalence is not None:
            logit += special.logit(prevalence) - special.logit(self.prevalence)
        return special.expit(logit)


def platt_scaling(positive_P: Scores, negative_N: Scores) -> Platt | None:
    """The sigmoid of least log-loss towards (P + 1)/(P + 2) and 1/(N + 2), by Newton's method.

    Those targets in place of 1 and 0 keep separated scores from an infinite slope (Platt 1999; the
    algorithm is that of Lin, Lin & Weng 2007). None where a class has no row.
    """
    from scipy import special

    p, n = positive_P.size, negative_N.size
    if p == 0 or n == 0:
        return None
    target = np.repeat([(p + 1) / (p + 2), 1 / (n + 2)], [p, n])
    raw = np.concatenate([positive_P, negative_N]).astype(np.float64)
    centre, scale = float(raw.mean()), float(raw.std()) or 1.0
    design = np.stack([(raw - centre) / scale, np.ones_like(raw)])
    weights = np.array([0.0, math.log((p + 1) / (n + 1))])
    loss = _loss(weights @ design, target)
    for _ in range(STEPS):
        probability = special.expit(weights @ design)
        gradient = design @ (probability - target)
        if np.abs(gradient).max() < 1e-8 * raw.size:
            break
        hessian = (design * (probability * (1 - probability))) @ design.T + RIDGE * np.eye(2)
        step = -np.linalg.solve(hessian, gradient)
        length = 1.0
        while length > 1e-10 and _loss((weights + length * step) @ design, target) > loss:
            length /= 2
        weights = weights + length * step
        loss = _loss(weights @ design, target)
    slope = float(weights[0]) / scale
    return Platt(slope, float(weights[1]) - slope * centre, p / (p + n))


def _loss(logit: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    return float((np.logaddexp(0, logit) - target * logit).sum())
