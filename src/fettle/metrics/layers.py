"""How far the layers of a model moved from where training began, and what their gradients say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, hypot, sqrt
from typing import Any

from fettle.metrics.module_names import GROUPS, ModuleGroup, layer_and_group
from fettle.runs.records import GroupMovement

# A layer whose weights moved by less than this share has not moved.
DEAD_RELATIVE = 1e-8
VANISHING_GRADIENT = 1e-5
EXPLODING_GRADIENT = 100.0
# Largest over smallest gradient norm of a layer.
GRADIENT_IMBALANCE = 1000.0
TOP_LAYERS = 5

Place = tuple[int | None, ModuleGroup]


@dataclass(frozen=True, slots=True)
class ModuleNorms:
    """One weight of a model: squared Frobenius norms, for squares of parts add up."""

    name: str
    movement_square: float
    """Of W - W0."""
    weight_square: float | None
    """Of W0, the weight training began with; None where it cannot be read."""


@dataclass(frozen=True, slots=True)
class LayerTotal:
    """All groups of one layer together; `layer` None for what stands outside the layers."""

    layer: int | None
    movement: float
    weight_norm: float | None
    grad_norm: float | None

    @property
    def relative(self) -> float | None:
        """Movement over weight norm."""
        return self.movement / self.weight_norm if self.weight_norm else None

    @property
    def dead(self) -> bool:
        """Whether nothing moved."""
        return layer_state(self.relative, self.movement, None) == "dead"


def group_movements(
    modules: Iterable[ModuleNorms], grad_norms: Mapping[Place, float] | None = None
) -> list[GroupMovement]:
    """Modules joined by layer and group, layers in order, what stands outside them last.

    Movement is sqrt(sum ‖W - W0‖²_F) over the modules of a group, its weight norm
    sqrt(sum ‖W0‖²_F); their ratio compares groups of any size. One unknown weight norm makes
    that of its group unknown. `grad_norms` holds 2-norms by layer and group.
    """
    places: dict[Place, list[ModuleNorms]] = {}
    for module in modules:
        places.setdefault(layer_and_group(module.name), []).append(module)
    order = sorted(places, key=lambda place: (place[0] is None, place[0] or 0, GROUPS.index(place[1])))
    return [
        GroupMovement(
            layer=place[0],
            group=place[1],
            modules=len(places[place]),
            movement=sqrt(fsum(m.movement_square for m in places[place])),
            weight_norm=_root([m.weight_square for m in places[place]]),
            grad_norm=(grad_norms or {}).get(place),
        )
        for place in order
    ]


def layer_totals(groups: Sequence[GroupMovement]) -> list[LayerTotal]:
    """Each layer as a whole, in order, what stands outside them last.

    Groups without a gradient do not count in its norm; one unknown weight norm makes that of
    the layer unknown.
    """
    layers: dict[int | None, list[GroupMovement]] = {}
    for group in sorted(groups, key=lambda g: (g.layer is None, g.layer or 0)):
        layers.setdefault(group.layer, []).append(group)
    totals: list[LayerTotal] = []
    for layer, own in layers.items():
        gradients = [g.grad_norm for g in own if g.grad_norm is not None]
        weights = [g.weight_norm for g in own if g.weight_norm is not None]
        totals.append(
            LayerTotal(
                layer=layer,
                movement=hypot(*(g.movement for g in own)),
                weight_norm=hypot(*weights) if len(weights) == len(own) else None,
                grad_norm=hypot(*gradients) if gradients else None,
            )
        )
    return totals


def layer_rows(groups: Sequence[GroupMovement]) -> list[dict[str, Any]]:
    """One row a layer for the event log, its groups inside."""
    return [
        {
            "layer": total.layer,
            "relative": total.relative,
            "movement": total.movement,
            "weight_norm": total.weight_norm,
            "grad_norm": total.grad_norm,
            "groups": {
                g.group: {
                    "modules": g.modules,
                    "relative": g.relative,
                    "movement": g.movement,
                    "weight_norm": g.weight_norm,
                    "grad_norm": g.grad_norm,
                }
                for g in groups
                if g.layer == total.layer
            },
        }
        for total in layer_totals(groups)
    ]


def layer_activity_summary(groups: Sequence[GroupMovement]) -> dict[str, Any]:
    """The five layers that moved most, and the layers with something wrong; embeddings and head left out.

    `top` goes by relative movement, by movement where a weight cannot be read. `dead` did not
    move; `vanishing` and `exploding` have a gradient norm below 1e-5, or above 100 or none at
    all; `gradient_spread` is the largest over the smallest norm of a layer, None where fewer
    than two are above zero; `imbalanced` whether it exceeds 1000, None where there is none.
    """
    totals = [total for total in layer_totals(groups) if total.layer is not None]
    gradients = {t.layer: t.grad_norm for t in totals if t.grad_norm is not None}
    above_zero = [g for g in gradients.values() if g > 0]
    spread = max(above_zero) / min(above_zero) if len(above_zero) > 1 else None
    return {
        "layers": len(totals),
        "top": [
            {"layer": t.layer, "relative": t.relative, "movement": t.movement} for t in _most_moved(totals)
        ],
        "dead": [t.layer for t in totals if t.dead],
        "vanishing": [layer for layer, norm in gradients.items() if norm < VANISHING_GRADIENT],
        "exploding": [layer for layer, norm in gradients.items() if not norm <= EXPLODING_GRADIENT],
        "gradient_spread": spread,
        "imbalanced": None if spread is None else spread > GRADIENT_IMBALANCE,
    }


def layer_state(relative: float | None, movement: float, grad_norm: float | None) -> str:
    """`dead` did not move; `exploding` and `vanishing` go by the gradient; else `moved`."""
    if movement == 0.0 if relative is None else relative <= DEAD_RELATIVE:
        return "dead"
    if grad_norm is None or VANISHING_GRADIENT <= grad_norm <= EXPLODING_GRADIENT:
        return "moved"
    return "vanishing" if grad_norm < VANISHING_GRADIENT else "exploding"


def _most_moved(totals: Sequence[LayerTotal]) -> list[LayerTotal]:
    known = all(t.relative is not None for t in totals)
    moved = [t for t in totals if not t.dead]
    return sorted(moved, key=lambda t: (t.relative if known else t.movement) or 0.0, reverse=True)[
        :TOP_LAYERS
    ]


def _root(squares: Sequence[float | None]) -> float | None:
    known = [square for square in squares if square is not None]
    return sqrt(fsum(known)) if len(known) == len(squares) else None
