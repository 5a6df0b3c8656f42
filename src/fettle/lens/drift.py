"""Which concepts a fine-tune moved: frozen lenses of the base model over a checkpoint's activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fettle.errors import DataError
from fettle.lens.lens_pack import LensPack
from fettle.lens.linear import LinearLenses
from fettle.lens.mixed import MixedLenses, Scoring, parts
from fettle.lens.problem import Floats, Ints, LensProblem, LensRows
from fettle.lens.ridge import fit_ridge
from fettle.metrics import area_under_curve

RESAMPLES = 1000
FALSE_ALARMS = 0.05
"""Share of runs in which any lens may be called moved though none was."""
OUTSTANDING = 2.0
"""Deviations of the other lenses from which a shift is one of this concept."""
FEWEST_LENSES = 8
"""Lenses from which the others can stand in for control runs."""
POOLED_FREEDOM = 4
"""So many control runs' worth of the spread of all lenses goes into the spread of each."""
MAD_TO_DEVIATION = 1.4826
MAD_FREEDOM = 0.37
"""Efficiency of the median absolute deviation beside the standard deviation of a normal."""


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """All C lenses at one checkpoint, on the same T texts as the base model."""

    shift: NDArray[np.float64]
    """Mean change of the score in deviations of texts without the concept, [C]."""
    low: NDArray[np.float64]
    """Lower end of its 95 % interval, by bootstrap over texts, [C]."""
    high: NDArray[np.float64]
    effect: NDArray[np.float64]
    """Shift beyond that of the other lenses, in their deviations; beside controls where lenses are few; NaN
    with neither, [C]."""
    p: NDArray[np.float64]
    """Probability of so large a shift in a run that taught nothing in particular, [C]."""
    changes: Floats
    """Of each text, in the same unit as the shift, [T, C]."""

    @property
    def moved(self) -> NDArray[np.bool_]:
        """Lenses whose shift is not chance, not what any training does, and not that of all lenses, [C]."""
        apart_from_zero = (self.low > 0) | (self.high < 0)
        return apart_from_zero & (self.p <= FALSE_ALARMS / self.p.size) & (np.abs(self.effect) >= OUTSTANDING)

    @property
    def order(self) -> Ints:
        """Lenses by size of effect, the largest first; by shift where there is no effect, [C]."""
        size = np.abs(self.shift if np.isnan(self.effect).all() else self.effect)
        return np.argsort(-np.nan_to_num(size), kind="stable")

    def examples(self, lens: int, most: int = 5) -> Ints:
        """Texts that moved most in the direction of the shift."""
        along = self.changes[:, lens] * np.sign(self.shift[lens])
        return np.argsort(-along, kind="stable")[:most]


def drift(
    pack: LensPack,
    base_TD: Floats,
    later_TD: Floats,
    controls: Sequence[tuple[Floats, Floats]] = (),
    *,
    seed: int = 0,
) -> Drift:
    """Shift of every lens from the base model to a checkpoint, and whether it stands out.

    Any training moves all activations a little. Lenses are therefore ranked by their distance from the
    median lens, in median absolute deviations. They are judged beside `controls`, (base, checkpoint)
    activations of two or more runs that taught nothing in particular, by Student's t, each lens's spread
    over them drawn towards that of all lenses; without controls by the distance itself. Raises DataError
    where the texts differ in number.
    """
    change_TC = _change(pack, base_TD, later_TD)
    texts = len(change_TC)
    shift_C = change_TC.mean(0, dtype=np.float64)
    draws = np.random.default_rng(seed).multinomial(texts, np.full(texts, 1 / texts), size=RESAMPLES)
    means_RC = (draws.astype(np.float32) @ change_TC).astype(np.float64) / texts
    low_C, high_C = np.quantile(means_RC, (0.025, 0.975), axis=0)
    error_C = means_RC.std(0)
    effect_C, p_C = np.full(shift_C.size, np.nan), np.ones(shift_C.size)
    if shift_C.size >= FEWEST_LENSES:
        effect_C = _beside_lenses(shift_C, error_C)
        p_C = _two_sided(effect_C, MAD_FREEDOM * (shift_C.size - 1))
    if len(controls) >= 2:
        control_RC = np.stack([_change(pack, *control).mean(0, dtype=np.float64) for control in controls])
        t_C = _beside_controls(shift_C, error_C, control_RC)
        p_C = _two_sided(t_C, len(controls) - 1 + POOLED_FREEDOM)
        effect_C = np.where(np.isnan(effect_C), t_C, effect_C)
    return Drift(shift_C, low_C, high_C, effect_C, p_C, change_TC)


@dataclass(frozen=True, slots=True)
class Reading:
    """What labelled texts say of one lens at a checkpoint."""

    frozen_auroc: float
    """Of the lens of the base model."""
    refit_auroc: float
    """Of a lens trained on the checkpoint's activations."""
    cosine: float
    """Between both directions, in standardised features."""


def readings(lenses: LinearLenses | MixedLenses, penalty: float, later: LensProblem) -> list[Reading]:
    """Whether a concept became harder to read, or is merely written elsewhere, at a checkpoint.

    Beside a network too a linear lens is trained anew, and the cosine is between linear lenses.
    `later` holds the checkpoint's activations of the texts that the lenses were trained and tested on.
    """
    train, test = later.rows("train"), later.rows("test")
    refit = fit_ridge(train, penalty).lenses
    spread = train.features.std(0)
    frozen_CD, refit_CD = parts(lenses)[0].weights * spread, refit.weights * spread
    lengths = np.linalg.norm(frozen_CD, axis=1) * np.linalg.norm(refit_CD, axis=1)
    products = (frozen_CD * refit_CD).sum(1)
    cosine_C = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return [
        Reading(*found)
        for found in zip(_aurocs(lenses, test), _aurocs(refit, test), cosine_C.tolist(), strict=True)
    ]


def _change(pack: LensPack, base_TD: Floats, later_TD: Floats) -> Floats:
    if base_TD.shape != later_TD.shape:
        raise DataError(
            f"drift: {len(base_TD)} texts of the base model and {len(later_TD)} of the checkpoint; "
            "extract the same texts from both"
        )
    # The bias and the mean of negatives cancel in a difference.
    apart = replace(pack.lenses, mean=np.zeros_like(pack.lenses.mean), bias=np.zeros_like(pack.lenses.bias))
    change_TC = apart.scores(later_TD.astype(np.float32) - base_TD)
    if pack.networks is not None:
        before_TK, after_TK = pack.networks.scores(base_TD), pack.networks.scores(later_TD)
        change_TC[:, pack.networks.at] = after_TK - before_TK
    return change_TC / pack.negative_deviation


def _beside_controls(
    shift_C: NDArray[np.float64], error_C: NDArray[np.float64], control_RC: NDArray[np.float64]
) -> NDArray[np.float64]:
    runs = len(control_RC)
    own_C = control_RC.var(0, ddof=1)
    drawn_C = ((runs - 1) * own_C + POOLED_FREEDOM * own_C.mean()) / (runs - 1 + POOLED_FREEDOM)
    return _ratio(shift_C - control_RC.mean(0), np.sqrt(drawn_C * (1 + 1 / runs) + error_C**2))


def _beside_lenses(shift_C: NDArray[np.float64], error_C: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance from the median lens, in the spread of all lenses and a lens's own error."""
    centred_C = shift_C - np.median(shift_C)
    spread = MAD_TO_DEVIATION * float(np.median(np.abs(centred_C)))
    return _ratio(centred_C, np.sqrt(spread**2 + error_C**2))


def _two_sided(t_C: NDArray[np.float64], freedom: float) -> NDArray[np.float64]:
    return 2 * np.asarray(special.stdtr(freedom, -np.abs(t_C)), dtype=np.float64)


def _ratio(values_C: NDArray[np.float64], spread_C: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(values_C, spread_C, out=np.zeros_like(values_C), where=spread_C > 0)


def _aurocs(lenses: Scoring, rows: LensRows) -> list[float]:
    scores_NC = lenses.scores(rows.features)
    return [area_under_curve(*rows.split(scores_NC, c)) for c in range(rows.lenses)]
