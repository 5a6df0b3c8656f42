"""Lenses of which some are networks, read together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fettle.lens.linear import Floats, LinearLenses


class Scoring(Protocol):
    """Says of texts how far they show each of C concepts."""

    def scores(self, features_ND: NDArray[Any]) -> Floats: ...


class SomeNetworks(Protocol):
    """K networks in the place of linear lenses."""

    @property
    def at(self) -> NDArray[np.int64]:
        """Which lenses they are, rising, [K]."""
        ...

    def scores(self, features_ND: NDArray[Any]) -> Floats: ...


@dataclass(frozen=True, slots=True, eq=False)
class MixedLenses:
    """C lenses: linear ones, but for those that networks have taken the place of."""

    linear: LinearLenses
    """Of all concepts, also of those."""
    networks: SomeNetworks

    def scores(self, features_ND: NDArray[Any]) -> Floats:
        """[N, C], in float32."""
        scores_NC = self.linear.scores(features_ND)
        scores_NC[:, self.networks.at] = self.networks.scores(features_ND)
        return scores_NC


def mixed(linear: LinearLenses, networks: SomeNetworks | None) -> LinearLenses | MixedLenses:
    """Both together, where there are networks."""
    return linear if networks is None else MixedLenses(linear, networks)


def parts(lenses: LinearLenses | MixedLenses) -> tuple[LinearLenses, SomeNetworks | None]:
    """Linear lenses of all concepts, and the networks that some are."""
    return (lenses.linear, lenses.networks) if isinstance(lenses, MixedLenses) else (lenses, None)
