"""The ways to run a model, from the fastest to the one that always works, and the choice among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from loguru import logger

from fettle.scoring.decoder import device_of, separable, undisturbed, unwrapped, virtual_tokens
from fettle.scoring.head import adjustment, locate_head

LayoutName = Literal["packed", "padded", "single"]
HeadName = Literal["tiled", "module", "kept", "full"]


@dataclass(frozen=True, slots=True)
class Route:
    """How tokens are laid out, and who applies the head."""

    layout: LayoutName
    """packed: one row without padding; padded: side by side; single: one sequence a pass, no padding."""
    head: HeadName
    """tiled: ours from the weights; module: the model's layer on hidden states, in chunks;
    kept: the model's own logits at the positions that count; full: at every position."""


LAST_RESORT = Route("single", "full")
_chosen: WeakKeyDictionary[Any, dict[Any, Route]] = WeakKeyDictionary()


def choose_route(model: Any, layouts: tuple[LayoutName, ...] = ("packed", "padded")) -> Route:
    """The fastest route whose results equal `model(input_ids).logits` on a small probe.

    Layouts are tried in the order given. Found once a model object, and again when
    its adapters, device or precision change.
    """
    from fettle.scoring.probe import proved  # which runs routes, and so imports this module

    routes = _chosen.setdefault(model, {})
    key = (_signature(model), layouts)
    if key not in routes:
        with undisturbed(model), torch.autocast(device_of(model).type, enabled=False):
            tried = candidates(model, layouts)
            routes[key] = next((route for route in tried if proved(model, route)), LAST_RESORT)
        logger.debug("{} is scored by {}", type(unwrapped(model)).__name__, routes[key])
    return routes[key]


def candidates(model: Any, layouts: tuple[LayoutName, ...]) -> Iterator[Route]:
    """Routes to try, fastest first."""
    if separable(model):
        heads: list[HeadName] = ["module"] if locate_head(model) is None else ["tiled", "module"]
        yield from (Route(layout, head) for head in heads for layout in layouts)
    if not virtual_tokens(model):
        yield from (Route("padded", "kept"), Route("single", "kept"))
    yield Route("padded", "full")


def _signature(model: Any) -> tuple[Any, ...]:
    """What a route depends on and a user may change between two calls."""
    base = unwrapped(model)
    adapters = tuple(getattr(model, "active_adapters", ())) if hasattr(model, "peft_config") else ()
    off = any(getattr(module, "disable_adapters", False) is True for module in base.modules())
    has_head = locate_head(model) is not None
    return (device_of(model), base.dtype, adapters, off, has_head, *adjustment(model))
