"""Logistic lenses: Newton's method for all concepts of a bank at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fettle.lens.folds import FOLDS, group_folds, keep
from fettle.lens.linear import LinearLenses, from_standard
from fettle.lens.problem import Floats, LensRows
from fettle.lens.standardise import standardisation

Reals = NDArray[np.floating[Any]]

NEWTON_STEPS = 25
INNER_STEPS = 12
HALVINGS = 10
GRADIENT = 1e-6
"""Mean square root of a lens's gradient at which it has converged."""
SCORES_AT_ONCE = 2**24
"""Lenses × rows held at a time: 64 MB each of scores, weights and directions."""


class LogisticFit:
    """Logistic regression of each concept against the rest of the bank.

    Minimises mean log-loss + penalty/2·‖w‖² over a lens's positives and negatives, features standardised,
    bias free: scikit-learn's with C = 1 / (N·penalty), N the rows of the bank.
    """

    def __init__(self, rows: LensRows, penalty: float) -> None:
        self.rows = rows
        self.penalty = penalty
        self.lenses: LinearLenses = _fit(rows, penalty)

    def fitted(self, first: int, last: int) -> Floats:
        """Logits of lenses first:last on their own training rows, [lenses, N]."""
        return np.ascontiguousarray(self.lenses.scores(self.rows.features)[:, first:last].T)

    def held_out(self, first: int, last: int, fitted: Floats | None = None) -> Floats:
        """Logits on each row from lenses trained on other folds; no group lies in two."""
        return self._held_out[first:last]

    @cached_property
    def _held_out(self) -> Floats:
        fold_N = group_folds(self.rows)
        scores_CN = np.empty((self.rows.lenses, len(self.rows)), dtype=np.float32)
        for fold in range(FOLDS):
            lenses = _fit(keep(self.rows, fold_N != fold), self.penalty)
            scores_CN[:, fold_N == fold] = lenses.scores(self.rows.features[fold_N == fold]).T
        return scores_CN


def fit_logistic(rows: LensRows, penalty: float) -> LogisticFit:
    """Lenses of one set of rows."""
    return LogisticFit(rows, penalty)


def _fit(rows: LensRows, penalty: float) -> LinearLenses:
    standard = standardisation(rows.features)
    features = standard.apply(rows.features)
    # Along the axes of the covariance each lens's curvature is nearly diagonal, which preconditions it.
    spread, axes = np.linalg.eigh((features.T @ features).astype(np.float64) / len(features))
    rotated = np.column_stack([features @ axes.astype(np.float32), np.ones(len(rows), dtype=np.float32)])
    at_once = max(1, SCORES_AT_ONCE // len(rows))
    parts = [
        _Newton.of(rows.take(range(start, min(rows.lenses, start + at_once))), rotated, spread, penalty)
        for start in range(0, rows.lenses, at_once)
    ]
    weights_CD = np.concatenate(parts)
    return from_standard(standard, weights_CD[:, :-1] @ axes.T, weights_CD[:, -1])


@dataclass(slots=True, eq=False)
class _Newton:
    """One batch of lenses on the way; [C, D + 1] with the bias last."""

    features: Floats
    target: Floats
    """1 for positives, [C, N]."""
    counted: Floats
    """1 / N, 0 for rows that a lens leaves out, [C, N]."""
    spread: Floats
    """Variance of each rotated feature; 1 for the constant, [D + 1]."""
    shrink: Floats
    """Penalty of each weight, 0 for the bias, [D + 1]."""

    @staticmethod
    def of(rows: LensRows, features: Floats, spread: np.ndarray, penalty: float) -> Reals:
        """Weights at the minimum."""
        target = np.zeros((rows.lenses, len(rows)), dtype=np.float32)
        counted = np.full_like(target, 1 / len(rows))
        for lens in range(rows.lenses):
            target[lens, rows.positive[lens]] = 1
            counted[lens, rows.excluded[lens]] = 0
        shrink = np.full(features.shape[1], penalty, dtype=np.float32)
        shrink[-1] = 0
        widened = np.append(spread.clip(0), 1).astype(np.float32)
        return _Newton(features, target, counted, widened, shrink)._minimum()

    def _minimum(self) -> Reals:
        rate = (self.target * self.counted).sum(1) / self.counted.sum(1)
        weights = np.zeros((len(self.target), self.features.shape[1]), dtype=np.float32)
        weights[:, -1] = special.logit(rate)
        scores = weights @ self.features.T
        for _ in range(NEWTON_STEPS):
            probability = special.expit(scores)
            gradient = (self.counted * (probability - self.target)) @ self.features + self.shrink * weights
            if np.sqrt(np.square(gradient).mean(1)).max() < GRADIENT:
                break
            step = self._direction(gradient, self.counted * probability * (1 - probability))
            moved = step @ self.features.T
            length = self._length(weights, step, scores, moved)[:, None]
            weights += length * step
            scores += length * moved
        return weights

    def _direction(self, gradient: Reals, curvature_CN: Reals) -> Reals:
        """-H⁻¹·gradient by conjugate gradients, all lenses at once."""
        diagonal = curvature_CN.sum(1, keepdims=True) * self.spread + self.shrink + np.float32(1e-12)
        step, residual = np.zeros_like(gradient), -gradient
        scaled = residual / diagonal
        search, energy = scaled, (residual * scaled).sum(1, keepdims=True)
        enough = 1e-4 * energy
        for _ in range(INNER_STEPS):
            applied = ((search @ self.features.T) * curvature_CN) @ self.features + self.shrink * search
            along = (search * applied).sum(1, keepdims=True)
            length = np.divide(energy, along, out=np.zeros_like(energy), where=along > 0)
            step += length * search
            residual = residual - length * applied
            scaled = residual / diagonal
            before, energy = energy, (residual * scaled).sum(1, keepdims=True)
            if (energy <= enough).all():
                break
            search = scaled + np.divide(energy, before, out=np.zeros_like(energy), where=before > 0) * search
        return step

    def _length(self, weights: Reals, step: Reals, scores: Reals, moved: Reals) -> Reals:
        """Longest of 1, ½, ¼ ... of each lens's step that does not raise its objective, [C]."""
        before = self._objective(weights, scores)
        length = np.ones(len(weights), dtype=np.float32)
        for _ in range(HALVINGS):
            wide = length[:, None]
            worse = self._objective(weights + wide * step, scores + wide * moved) > before + 1e-7
            if not worse.any():
                break
            length[worse] /= 2
        return length

    def _objective(self, weights: Reals, scores: Reals) -> Reals:
        loss = (self.counted * (np.logaddexp(0, scores) - self.target * scores)).sum(1)
        return loss + (self.shrink * weights * weights).sum(1) / 2
