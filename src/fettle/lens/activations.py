"""Pooled activations of many texts: one pass for all layers, ended after the deepest."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fettle.errors import ModelError
from fettle.lens.blocks import blocks, check_layers, stream
from fettle.lens.spec import ExtractionSpec
from fettle.lens.tokens import Tokens
from fettle.scoring.budget import is_out_of_memory
from fettle.scoring.decoder import device_of, undisturbed, unwrapped
from fettle.scoring.plan import Piece, by_length, count_tokens, length_regimes, take
from fettle.scoring.token_budget import TokenBudget


class DeepestLayerReached(Exception):  # noqa: N818  It ends a forward pass; nothing went wrong.
    """Raised behind the deepest block that is needed."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Texts side by side, padded on either side."""

    ids: Tensor
    """[B, T]"""
    mask: Tensor
    """[B, T], 1 at real tokens."""
    counted: Tensor
    """[B, T], true where the position is pooled."""


def pooled_activations(
    model: Any, tokens: Sequence[Tokens], spec: ExtractionSpec, *, batch_tokens: int | None = None
) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """Indices of texts and their vectors, [B, layers, D], batch by batch, the longest first.

    `batch_tokens` bounds the tokens of one forward pass, padding counted; by default it follows from the
    model's size. The mode of every module and all random state are left as they were. Raises ModelError
    for a layer that the model lacks, and where one text alone exceeds the memory.
    """
    check_layers(model, spec.layers)
    budget = TokenBudget(model, batch_tokens)
    lengths = [len(text) for text in tokens]
    for regime in length_regimes(unwrapped(model).config.get_text_config(), lengths):
        waiting = by_length([Piece(i, 0, lengths[i]) for i in regime])
        while waiting:
            pieces = waiting[: take(waiting, 0, budget.tokens, padded=True)]
            chosen = [piece.sequence for piece in pieces]
            try:
                with undisturbed(model), budget.measured(count_tokens(pieces)):
                    vectors = run_batch(model, pad([tokens[i] for i in chosen]), spec)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                _refuse_one(pieces, error)
                budget.shrink(count_tokens(pieces))
                continue
            waiting = waiting[len(pieces) :]
            yield chosen, vectors


def pad(texts: Sequence[Tokens], side: Literal["left", "right"] = "right") -> Batch:
    """Texts side by side."""
    width = max(len(text) for text in texts)
    ids_BT = np.zeros((len(texts), width), dtype=np.int64)
    mask_BT = np.zeros((len(texts), width), dtype=np.int64)
    counted_BT = np.zeros((len(texts), width), dtype=np.bool_)
    for b, text in enumerate(texts):
        place = slice(0, len(text)) if side == "right" else slice(width - len(text), width)
        ids_BT[b, place], mask_BT[b, place], counted_BT[b, place] = text.ids, 1, text.counted
    return Batch(torch.from_numpy(ids_BT), torch.from_numpy(mask_BT), torch.from_numpy(counted_BT))


def run_batch(model: Any, batch: Batch, spec: ExtractionSpec) -> NDArray[np.float32]:
    """Vectors of one batch, however it is padded, [B, layers, D]. Nothing deeper than needed runs."""
    found: dict[int, Tensor] = {}
    with _reading(model, batch, spec, found):
        _forward(model, batch)
    return torch.stack([found[layer].cpu() for layer in spec.layers], dim=1).numpy()


def pool(hidden_BTD: Tensor, counted_BT: Tensor, pooling: str) -> Tensor:
    """Over the positions that count, in float32, [B, D]. What stands elsewhere has no say, be it NaN."""
    counted_BT = counted_BT.to(hidden_BTD.device)
    if pooling == "last":
        place_T = torch.arange(counted_BT.shape[1], device=counted_BT.device)
        last_B = (counted_BT * place_T).argmax(dim=1)
        return hidden_BTD[torch.arange(len(last_B), device=last_B.device), last_B].float()
    outside_BT1 = ~counted_BT[..., None]
    if pooling == "max":
        return hidden_BTD.masked_fill(outside_BT1, -torch.inf).amax(dim=1).float()
    sums_BD = hidden_BTD.masked_fill(outside_BT1, 0.0).sum(dim=1, dtype=torch.float32)
    return sums_BD / counted_BT.sum(dim=1, keepdim=True)


@contextmanager
def _reading(model: Any, batch: Batch, spec: ExtractionSpec, found: dict[int, Tensor]) -> Generator[None]:
    """Pool each layer asked for as it comes by, and end the pass behind the deepest."""
    stack, deepest = blocks(model), spec.layers[-1]

    def read(layer: int, hidden_BTD: Tensor) -> None:
        found[layer] = pool(hidden_BTD, batch.counted, spec.pooling)
        if layer == deepest:
            raise DeepestLayerReached

    def read_after(layer: int) -> Any:
        return stack[layer - 1].register_forward_hook(lambda _, __, output: read(layer, stream(output)))

    def read_before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        read(0, args[0] if args else kwargs["hidden_states"])

    hooks = [read_after(layer) for layer in spec.layers if layer > 0]
    if spec.layers[0] == 0:
        hooks.append(stack[0].register_forward_pre_hook(read_before, with_kwargs=True))
    try:
        yield
    except DeepestLayerReached:
        pass
    finally:
        for hook in hooks:
            hook.remove()


def _forward(model: Any, batch: Batch) -> None:
    """The stack without its head, with the arguments that it knows."""
    base = unwrapped(model)
    stack, device = base.base_model, device_of(model)
    ids, mask = batch.ids.to(device), batch.mask.to(device)
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    # Some encoders count positions themselves, from one behind their padding token on.
    counts_itself = any(hasattr(m, "create_position_ids_from_input_ids") for m in stack.modules())
    if not counts_itself:
        inputs["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)
    known = signature(stack.forward).parameters
    stack(**{name: value for name, value in inputs.items() if name in known})


def _refuse_one(pieces: list[Piece], error: RuntimeError) -> None:
    """Raise ModelError where a text by itself does not fit."""
    if len(pieces) == 1:
        raise ModelError(
            f"a text of {pieces[0].tokens} tokens does not fit into memory beside the model, even by itself. "
            "Lower max_tokens, or use dtype bfloat16"
        ) from error
