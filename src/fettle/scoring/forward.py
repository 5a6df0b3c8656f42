"""One forward pass along a route: hidden states or logits at the positions that count."""

from __future__ import annotations

from collections.abc import Sequence as Collection
from typing import Any

import torch
from torch import Tensor

from fettle.data.sequence import Sequence
from fettle.scoring.attention import KeyValue, Packing, packed_attention
from fettle.scoring.decoder import device_of, run_decoder, run_model, unwrapped, virtual_tokens
from fettle.scoring.head import adjustment, locate_head
from fettle.scoring.layout import Layout, pack, pad
from fettle.scoring.plan import Piece
from fettle.scoring.route import Route
from fettle.scoring.statistics import (
    TokenStatistics,
    exact_float32,
    joined,
    logit_statistics,
    token_statistics,
)

# Logits that the model's own head may form at once, in bytes of float32.
LOGITS_BYTES = 32 << 20


def lay_out(
    model: Any, sequences: Collection[Sequence], pieces: Collection[Piece], route: Route, keep: int = 0
) -> Layout:
    """Pieces as one forward pass of this route."""
    if route.layout == "packed":
        return pack(sequences, pieces, device_of(model), keep)
    return pad(sequences, pieces, device_of(model))


def hidden_states(
    model: Any, layout: Layout, carried: list[KeyValue] | None = None
) -> tuple[Tensor, list[KeyValue]]:
    """Hidden states before the head at `layout.rows`, [P, D], and the keys and values to carry over.

    Differentiable, but for what is carried.
    """
    inputs = {
        "input_ids": layout.input_ids,
        "attention_mask": layout.attention_mask,
        "position_ids": layout.position_ids,
    }
    if not layout.blocks:
        return run_decoder(model, inputs).flatten(0, 1)[layout.rows], []
    packing = Packing(layout.blocks, layout.keep, carried)
    with packed_attention(unwrapped(model), packing):
        hidden_BTD = run_decoder(model, inputs)
    if packing.calls == 0:
        raise NotImplementedError("this model does not attend through the attention interface")
    return hidden_BTD.flatten(0, 1)[layout.rows], packing.kept


def hidden_statistics(model: Any, hidden_PD: Tensor, targets_P: Tensor, route: Route) -> TokenStatistics:
    """Statistics from hidden states, with the head that the route names."""
    head = locate_head(model)
    if route.head == "tiled" and head is not None:
        return token_statistics(hidden_PD, head, targets_P)
    rows = max(1, LOGITS_BYTES // (4 * vocabulary(model)))
    chunks = [slice(start, start + rows) for start in range(0, hidden_PD.shape[0], rows)]
    return joined([logit_statistics(module_logits(model, hidden_PD[at]), targets_P[at]) for at in chunks])


def module_logits(model: Any, hidden_PD: Tensor) -> Tensor:
    """Logits by the model's own output layer, adjusted as its family does; float32, differentiable."""
    scale, softcap = adjustment(model)
    with exact_float32():
        logits_PV = unwrapped(model).get_output_embeddings()(hidden_PD).float() * scale
    return logits_PV if softcap is None else torch.tanh(logits_PV / softcap) * softcap


def model_statistics(model: Any, layout: Layout, route: Route) -> TokenStatistics:
    """Statistics from the model's own logits, a few sequences at a time."""
    count, width = layout.input_ids.shape
    columns = _columns(layout)[0].numel() if route.head == "kept" else width
    step = max(1, LOGITS_BYTES // (4 * columns * vocabulary(model)))
    parts: list[TokenStatistics] = []
    for start in range(0, count, step):
        inside = (layout.rows >= start * width) & (layout.rows < (start + step) * width)
        some = Layout(
            input_ids=layout.input_ids[start : start + step],
            position_ids=layout.position_ids[start : start + step],
            attention_mask=None
            if layout.attention_mask is None
            else layout.attention_mask[start : start + step],
            blocks=(),
            keep=(),
            rows=layout.rows[inside] - start * width,
            targets=layout.targets[inside],
        )
        parts.append(logit_statistics(model_logits(model, some, route), some.targets))
    return joined(parts)


def model_logits(model: Any, layout: Layout, route: Route) -> Tensor:
    """The model's own logits at `layout.rows` of a padded layout, [P, V]; differentiable."""
    inputs = {"input_ids": layout.input_ids, "attention_mask": layout.attention_mask}
    width = layout.input_ids.shape[1]
    if route.head == "kept":
        columns_K, inverse_P = _columns(layout)
        return run_model(model, inputs, keep=columns_K)[layout.rows // width, inverse_P]
    return run_model(model, inputs)[:, virtual_tokens(model) :].flatten(0, 1)[layout.rows]


def _columns(layout: Layout) -> tuple[Tensor, Tensor]:
    """Columns of a padded layout that hold a prediction, [K], and which of them each prediction is, [P]."""
    columns_P: Any = layout.rows % layout.input_ids.shape[1]
    return columns_P.unique(return_inverse=True)


def vocabulary(model: Any) -> int:
    """Number of tokens the model knows as input."""
    return int(unwrapped(model).get_input_embeddings().weight.shape[0])
