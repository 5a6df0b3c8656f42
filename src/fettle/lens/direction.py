"""The direction of a lens in the residual stream, in units of its evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.errors import DataError
from fettle.lens.lens_pack import LensPack
from fettle.lens.networks import Networks

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Direction:
    """A unit vector and what evidence it carries: ((h - mean)·unit) / deviation + offset."""

    concept: str
    layer: int
    unit: Floats
    """[D]."""
    mean: Floats
    """Of the activations the lens was trained on, [D]."""
    deviation: float
    """Projection that is worth one unit of evidence: one deviation of the texts without the concept."""
    offset: float = 0.0

    def evidence(self, features_ND: NDArray[Any]) -> Floats:
        """How far texts lie from those without the concept, in deviations of those, [N]."""
        centred_ND: Floats = features_ND.astype(np.float32)
        centred_ND -= self.mean
        return centred_ND @ self.unit / np.float32(self.deviation) + np.float32(self.offset)


def lens_direction(pack: LensPack, concept: str, *, any_grade: bool = False) -> Direction:
    """The direction along which a lens's score rises fastest.

    Raises DataError for a concept that the pack lacks, and for a lens graded C or U unless `any_grade`:
    one that does not single out its concept would steer by something else. That of a network is the mean of
    its gradients over texts, and evidence along it that of the projection.
    """
    if concept not in pack.concepts:
        raise DataError(
            f"the pack has no lens '{concept}' among its {len(pack.concepts)}. See fettle lens show"
        )
    c = pack.concepts.index(concept)
    grade = pack.records[c].get("grade", "U")
    if grade not in ("A", "B") and not any_grade:
        raise DataError(
            f"lens '{concept}' is graded {grade} and may not drive steering or alarms. Ask for it with "
            "--any-grade, or train it on more texts"
        )
    if pack.networks is not None and c in pack.networks.at:
        return _of_network(pack, pack.networks, int(np.searchsorted(pack.networks.at, c)), concept)
    weights = pack.lenses.weights[c].astype(np.float64)
    length = float(np.linalg.norm(weights))
    if length == 0:
        raise DataError(f"lens '{concept}' has no direction: all its weights are 0")
    spread = float(pack.negative_deviation[c])
    return Direction(
        concept=concept,
        layer=pack.layer,
        unit=(weights / length).astype(np.float32),
        mean=pack.lenses.mean,
        deviation=spread / length,
        offset=float(pack.lenses.bias[c] - pack.negative_mean[c]) / spread,
    )


def _of_network(pack: LensPack, networks: Networks, k: int, concept: str) -> Direction:
    mean, deviation = (float(value) for value in networks.projections[k])
    return Direction(
        concept=concept,
        layer=pack.layer,
        unit=networks.directions[k],
        mean=networks.mlp.standard.mean,
        deviation=deviation,
        offset=-mean / deviation,
    )
