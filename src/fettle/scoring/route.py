"""Which way a model is run, chosen once a model and proved equal to the plain one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from loguru import logger
from torch import Tensor

from fettle.data.sequence import Sequence
from fettle.scoring.attention import packed_attention
from fettle.scoring.head import LMHead, locate_head, token_statistics, unwrapped
from fettle.scoring.layout import Group, Layout, packed, padded

LayoutName = Literal["packed", "padded"]


@dataclass(frozen=True, slots=True)
class Route:
    """How hidden states are laid out, and whether the head is applied by us."""

    layout: LayoutName
    tiled_head: bool


GENERIC = Route("padded", tiled_head=False)
_chosen: WeakKeyDictionary[Any, Route] = WeakKeyDictionary()


def choose_route(model: Any) -> Route:
    """The fastest route whose results equal `model(input_ids).logits` on a small probe.

    Chosen once a model object. A CPU gains most from packing; on a GPU many small
    attention calls cost more than padding does.
    """
    if model in _chosen:
        return _chosen[model]
    candidates = [Route("packed", True), Route("padded", True)]
    if device_of(model).type != "cpu":
        candidates.reverse()
    if (
        locate_head(model) is None
        or getattr(model, "active_peft_config", None) is not None
        and getattr(model.active_peft_config, "is_prompt_learning", False)
    ):
        candidates = []
    route = next((c for c in candidates if _proved(model, c)), GENERIC)
    logger.debug(
        "{} is scored {} with {}",
        type(unwrapped(model)).__name__,
        route.layout,
        "the tiled head" if route.tiled_head else "its own head",
    )
    _chosen[model] = route
    return route


def device_of(model: Any) -> torch.device:
    """Where the first parameter of a model lies."""
    return next(model.parameters()).device


def hidden_states(model: Any, layout: Layout) -> Tensor:
    """Hidden states before the head at `layout.rows_P`, [P, D]; differentiable."""
    base = unwrapped(model)
    inputs: dict[str, Any] = {
        "input_ids": layout.input_ids,
        "position_ids": layout.position_ids,
        "attention_mask": layout.attention_mask,
        "use_cache": False,
    }
    if not _takes_positions(base.base_model):
        inputs.pop("position_ids")
    if layout.segments:
        with packed_attention(base, layout.segments):
            output = base.base_model(**inputs)
    else:
        output = base.base_model(**inputs)
    return output.last_hidden_state.flatten(0, 1)[layout.rows_P]


def _takes_positions(decoder: Any) -> bool:
    from inspect import signature

    return "position_ids" in signature(decoder.forward).parameters


def plain_logits(model: Any, layout: Layout) -> Tensor:
    """The model's own logits at `layout.rows_P` of a padded layout, [P, V]; differentiable.

    Where the model can, its head runs at the columns that hold a prediction only.
    """
    width = layout.input_ids.shape[1]
    inputs: dict[str, Any] = {"input_ids": layout.input_ids, "attention_mask": layout.attention_mask}
    from inspect import signature

    if "logits_to_keep" in signature(unwrapped(model).forward).parameters:
        columns_K, inverse = torch.unique(layout.rows_P % width, return_inverse=True)
        logits = model(**inputs, logits_to_keep=columns_K, use_cache=False).logits
        return logits[layout.rows_P // width, inverse]
    return model(**inputs, use_cache=False).logits.flatten(0, 1)[layout.rows_P]


def lay_out(sequences: list[Sequence], groups: list[Group], route: Route, device: torch.device) -> Layout:
    """Groups of sequences as one forward pass of this route."""
    if route.layout == "packed":
        return packed(sequences, groups, device)
    return padded([sequences[i] for group in groups for i in group.members], device)


@torch.no_grad()
def _proved(model: Any, route: Route) -> bool:
    """Whether a route gives the model's own log-probabilities on two short sequences that share a prefix."""
    head = locate_head(model)
    assert isinstance(head, LMHead)
    ids = np.random.default_rng(0).integers(0, head.weight.shape[0], size=12)
    sequences = [Sequence(ids[:9], [0] * 4 + [1] * 5), Sequence(np.r_[ids[:4], ids[9:]], [0] * 4 + [1] * 3)]
    device = device_of(model)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        reference = padded(sequences, device)
        expected = plain_logits(model, reference).float().log_softmax(-1)
        expected = expected.gather(1, reference.targets_P.unsqueeze(1)).squeeze(1)
        layout = lay_out(sequences, [Group((0, 1), shared=4)], route, device)
        got = token_statistics(hidden_states(model, layout), head, layout.targets_P).logprob
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        logger.debug("route {} does not run: {}", route, error)
        return False
    finally:
        for module, training in modes:
            module.training = training
    # Half precision: the reference itself is rounded, to about 2^-8 of a logit.
    tolerance = 1e-3 if head.weight.dtype == torch.float32 else 0.1
    difference = float((got - expected).abs().max())
    logger.debug("route {}: largest difference {:.2e}", route, difference)
    return difference <= tolerance
