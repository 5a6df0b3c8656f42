"""Whether lenses may be trained on one machine, dtype or batch size and used on another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fettle.errors import DataError
from fettle.lens.judge import judge_held_out, negative_moments
from fettle.lens.linear import LinearLenses
from fettle.lens.mixed import MixedLenses, mixed
from fettle.lens.mlp import compare_mlp
from fettle.lens.networks import fit_networks
from fettle.lens.problem import Floats, LensProblem
from fettle.lens.ridge import fit_ridge
from fettle.metrics import Estimate, area_under_curve, best_threshold, mean_estimate
from fettle.metrics.binary import BALANCED, f1_at

SAFE_F1 = 0.03
"""Mean loss of F1 over lenses from which a mix is unsafe; seeds and splits make as much."""
SAFE_LENS = 0.10
"""Loss of one lens that is its own business and no chance."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One lens, used as it was trained and used otherwise, on the same sealed test."""

    f1: float
    """With the threshold of training, used otherwise minus used as trained."""
    auroc: float
    threshold: float
    """Best threshold otherwise minus best threshold as trained, in deviations of the negatives."""


@dataclass(frozen=True, slots=True)
class Mix:
    """All lenses of one mix."""

    lenses: list[Difference]
    f1: Estimate | None
    """Mean absolute difference over lenses."""
    auroc: Estimate | None
    threshold: Estimate | None
    score: float
    """Largest difference of any score, in deviations of the negatives."""

    @property
    def safe(self) -> bool:
        """Whether the mean loss is at most 0.03 F1 at the upper end, and no lens in twenty loses 0.10."""
        if self.f1 is None:
            return False
        mean = self.f1.value if self.f1.high is None else self.f1.high
        losing = sum(lens.f1 < -SAFE_LENS for lens in self.lenses)
        return mean <= SAFE_F1 and losing <= len(self.lenses) / 20

    @property
    def verdict(self) -> str:
        """One line for a person."""
        if self.f1 is None:
            return "nothing was compared"
        spread = "" if self.f1.high is None else f" (at most {self.f1.high:.4f})"
        says = "safe" if self.safe else "unsafe: train and use the lenses alike, or choose thresholds anew"
        return f"mean |ΔF1| {self.f1.value:.4f}{spread} over {len(self.lenses)} lenses: {says}"


def mix(
    trained: LensProblem, used: Floats, penalty: float, networks: Sequence[int] = (), *, seed: int = 0
) -> Mix:
    """Train lenses on one version of the activations and use them on another of the same texts, [N, D].

    Those of `networks`, rising, are trained as networks. Raises DataError where the texts differ in number.
    """
    if used.shape != trained.features.shape:
        raise DataError(
            f"verify: activations are {trained.features.shape} and {used.shape}; extract both anew"
        )
    train, test = trained.rows("train"), trained.rows("test")
    fit = fit_ridge(train, penalty)
    held_out = judge_held_out(fit, train)
    lenses: LinearLenses | MixedLenses = fit.lenses
    if networks:
        compared = compare_mlp(train, fit, networks, seed=seed)
        trained_networks, own = fit_networks(train, compared, seed=seed)
        lenses = mixed(fit.lenses, trained_networks)
        for lens, result in zip(networks, own, strict=True):
            held_out[lens] = result
    thresholds = [h.threshold for h in held_out]
    deviations = np.maximum(negative_moments(held_out)[1], np.finfo(np.float32).tiny)
    same_NC, other_NC = lenses.scores(test.features), lenses.scores(used[test.index])
    differences = [
        _difference(test.split(same_NC, c), test.split(other_NC, c), thresholds[c], deviations[c])
        for c in range(test.lenses)
    ]
    return Mix(
        lenses=differences,
        f1=_mean_size([lens.f1 for lens in differences]),
        auroc=_mean_size([lens.auroc for lens in differences]),
        threshold=_mean_size([lens.threshold for lens in differences]),
        score=float((np.abs(other_NC - same_NC) / deviations).max()),
    )


def _difference(
    same: tuple[Floats, Floats], other: tuple[Floats, Floats], threshold: float, deviation: float
) -> Difference:
    """Of one lens by the scores of its positives and negatives."""
    parts = (same, other)
    f1 = [_f1(*part, threshold) for part in parts]
    area = [area_under_curve(*part) for part in parts]
    best = [best_threshold(*part)[0] for part in parts]
    return Difference(f1[1] - f1[0], area[1] - area[0], (best[1] - best[0]) / deviation)


def _f1(positive_P: Floats, negative_N: Floats, threshold: float) -> float:
    hit, false = float((positive_P >= threshold).mean()), float((negative_N >= threshold).mean())
    return float(f1_at(hit, false, BALANCED))


def _mean_size(differences: Sequence[float]) -> Estimate | None:
    return mean_estimate(np.abs(np.array(differences)))
