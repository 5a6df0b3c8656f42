"""How likely it is that a direction drawn at random separates a concept as far as its lens does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fettle.lens.linear import LinearLenses
from fettle.lens.mixed import MixedLenses, SomeNetworks, parts
from fettle.lens.problem import LensRows

Reals = NDArray[np.float64]

VALUES_AT_ONCE = 2**22
"""Lenses × features held at a time."""
HALVINGS = 30
"""Of the interval that holds the saddlepoint: the probability is then that of it to a millionth."""
WIDEST = 1e15
"""Where the saddlepoint is not below, no direction separates so far."""
NO_VARIANCE = 1e-10
"""Share of the largest variance below which an axis counts as constant."""


def random_direction_p(lenses: LinearLenses | MixedLenses, rows: LensRows) -> Reals:
    """Probability that a direction drawn evenly in standardised space separates each concept so far, [C].

    Separation is (mean of positives - mean of negatives) / deviation of all rows. 1 for a lens without
    positives or without negatives.
    """
    linear, networks = parts(lenses)
    spread = rows.features.std(0, dtype=np.float64)
    spread[spread == 0] = 1.0
    standard_ND = ((rows.features - linear.mean) / spread).astype(np.float32)
    centred_ND = standard_ND - standard_ND.mean(0)
    variance_D, axes_DD = np.linalg.eigh((centred_ND.T @ centred_ND).astype(np.float64) / len(rows))
    variance_D[variance_D < NO_VARIANCE * variance_D.max()] = 0.0
    everyone_D = standard_ND.sum(0, dtype=np.float64)
    own_K = np.empty(0) if networks is None else _separations(networks, rows)
    p_C = np.ones(rows.lenses)
    at_once = max(1, VALUES_AT_ONCE // variance_D.size)
    for first in range(0, rows.lenses, at_once):
        block = slice(first, min(first + at_once, rows.lenses))
        apart_BD = _differences(standard_ND, everyone_D, rows, block) @ axes_DD
        apart_BD[:, variance_D == 0] = 0.0
        weights_BD = (linear.weights[block] * spread) @ axes_DD
        deviation_B = np.sqrt(weights_BD**2 @ variance_D)
        along_B = (weights_BD * apart_BD).sum(1)
        reached_B = np.divide(along_B, deviation_B, out=np.zeros_like(along_B), where=deviation_B > 0)
        if networks is not None:
            here = (networks.at >= block.start) & (networks.at < block.stop)
            reached_B[networks.at[here] - first] = own_K[here]
        known_B = apart_BD.any(1)
        p_C[block][known_B] = separation_p(reached_B[known_B], apart_BD[known_B], variance_D)
    return p_C


def separation_p(reached_C: Reals, apart_CD: Reals, variance_D: Reals) -> Reals:
    """P(u·d / sqrt(Σ λ u²) ≥ s) for a direction u drawn evenly, [C].

    `reached_C` are s, `apart_CD` the differences of means d along the axes of the covariance, `variance_D`
    its eigenvalues λ. For s > 0 this is half of P(Q ≤ 0), Q = s² Σ λ u² - (u·d)² of normal u: a quadratic
    form, whose lower tail is given by the saddlepoint of Lugannani and Rice in the form of Barndorff-Nielsen
    (Kuonen 1999, Biometrika 86:929). The determinants are those of a diagonal and one outer product, so
    that D numbers a lens suffice. Where s is no further than most directions reach, Student's t does.
    """
    p_C = _near(np.abs(reached_C), apart_CD, variance_D)
    far_C = reached_C**2 * variance_D.sum() > (apart_CD**2).sum(1)
    p_C[far_C] = _far(np.abs(reached_C[far_C]), apart_CD[far_C], variance_D)
    return np.where(reached_C < 0, 1 - p_C, p_C)


def _separations(networks: SomeNetworks, rows: LensRows) -> Reals:
    """(mean of positives - mean of negatives) / deviation of all rows, of each network's logits, [K]."""
    logits_NK = networks.scores(rows.features).astype(np.float64)
    found = np.zeros(networks.at.size)
    lenses: list[int] = networks.at.tolist()
    for k, lens in enumerate(lenses):
        positive, negative = rows.positive[lens], rows.negative(lens)
        deviation = float(logits_NK[:, k].std())
        if positive.size and negative.any() and deviation:
            found[k] = (logits_NK[positive, k].mean() - logits_NK[negative, k].mean()) / deviation
    return found


def _differences(standard_ND: NDArray[np.float32], everyone_D: Reals, rows: LensRows, block: slice) -> Reals:
    """Mean of positives less mean of negatives of some lenses; 0 where there are no such texts."""
    found = np.zeros((block.stop - block.start, standard_ND.shape[1]))
    for place, c in enumerate(range(block.start, block.stop)):
        positive, excluded = rows.positive[c], rows.excluded[c]
        others = len(rows) - positive.size - excluded.size
        if positive.size and others:
            own_D = standard_ND[positive].sum(0, dtype=np.float64)
            other_D = everyone_D - own_D - standard_ND[excluded].sum(0, dtype=np.float64)
            found[place] = own_D / positive.size - other_D / others
    return found


def _near(reached_C: Reals, apart_CD: Reals, variance_D: Reals) -> Reals:
    """‖d‖ / sqrt(trace) times Student's t, whose freedom is the effective rank of the covariance."""
    trace = variance_D.sum()
    t_C = reached_C / np.sqrt((apart_CD**2).sum(1) / trace)
    return np.asarray(special.stdtr(trace**2 / (variance_D**2).sum(), -t_C), dtype=np.float64)


def _far(reached_C: Reals, apart_CD: Reals, variance_D: Reals) -> Reals:
    scaled_CD, square_CD = reached_C[:, None] ** 2 * variance_D, apart_CD**2

    def slope(y_C: Reals) -> Reals:
        """Derivative of the cumulant function at -y/2, falling in y; negative beyond its end."""
        inverse_CD = 1 / (1 + y_C[:, None] * scaled_CD)
        pulled_CD = square_CD * inverse_CD
        left_C = 1 - y_C * pulled_CD.sum(1)
        inside_C = left_C > 0
        push_C, pull_C = _dots(scaled_CD, inverse_CD), _dots(pulled_CD, inverse_CD)
        return np.where(inside_C, push_C - pull_C / np.where(inside_C, left_C, 1.0), -1.0)

    low_C: Reals = np.zeros_like(reached_C)
    high_C: Reals = 1 / scaled_CD.max(1)
    while (rising_C := (slope(high_C) > 0) & (high_C < WIDEST)).any():
        high_C = np.where(rising_C, 4 * high_C, high_C)
    for _ in range(HALVINGS):
        middle_C = (low_C + high_C) / 2
        up_C = slope(middle_C) > 0
        low_C, high_C = np.where(up_C, middle_C, low_C), np.where(up_C, high_C, middle_C)
    p_C = _tail(low_C, scaled_CD, square_CD)
    return np.where(high_C >= WIDEST, 0.0, p_C)


def _dots(a_CD: Reals, b_CD: Reals) -> Reals:
    return np.asarray(np.einsum("cd,cd->c", a_CD, b_CD), dtype=np.float64)


def _tail(y_C: Reals, scaled_CD: Reals, square_CD: Reals) -> Reals:
    """Half of P(Q ≤ 0) from the saddlepoint -y/2."""
    one_CD = 1 + y_C[:, None] * scaled_CD
    left_C = 1 - y_C * (square_CD / one_CD).sum(1)
    first_C = -(square_CD / one_CD**2).sum(1) / left_C
    second_C = 2 * (square_CD * scaled_CD / one_CD**3).sum(1) / left_C
    curvature_C = 2 * (((scaled_CD / one_CD) ** 2).sum(1) - second_C + first_C**2)
    w_C = -np.sqrt(np.log(one_CD).sum(1) + np.log(left_C))
    v_C = -y_C / 2 * np.sqrt(curvature_C)
    return 0.5 * np.asarray(special.ndtr(w_C + np.log(v_C / w_C) / w_C), dtype=np.float64)
