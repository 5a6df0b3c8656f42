"""Greedy decoding: what the model says by itself."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fettle.scoring.budget import is_out_of_memory
from fettle.scoring.decoder import device_of, unwrapped


@dataclass(frozen=True, slots=True)
class Continuation:
    """What followed one prompt."""

    tokens: list[int]
    """New tokens, the one that ends the turn included where it came."""
    ended: bool
    """Whether such a token came before the limit."""
    seconds: float
    """Wall time until it was there, beside the others of its batch."""


def end_tokens(model: Any, tokenizer: Any, last_tokens: Iterable[int]) -> set[int]:
    """Tokens that end a turn: the model's, the tokenizer's, and special ones that end turns in the data."""
    configured: Any = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ends: list[Any] = [*configured] if hasattr(configured, "__iter__") else [configured]
    added: dict[int, Any] = tokenizer.added_tokens_decoder
    special = {token for token in set(last_tokens) if token in added and added[token].special}
    return special | {int(token) for token in [*ends, tokenizer.eos_token_id] if token is not None}


def greedy(
    model: Any,
    tokenizer: Any,
    ids_BT: Tensor,
    mask_BT: Tensor,
    max_new_tokens: int,
    stops: set[int],
    **hooks: Any,
) -> NDArray[np.int64]:
    """Contexts, padded on the left, and their continuations, [B, T + new].

    The model's own penalties and sampling settings have no say; `hooks` are further arguments of
    Transformers' `generate`, which may change the logits that the argmax is taken of.
    """
    from transformers import GenerationConfig

    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(stops, default=0)
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        pad_token_id=pad,
        eos_token_id=sorted(stops) or None,
    )
    device = device_of(model)
    inputs = {"input_ids": ids_BT.to(device), "attention_mask": mask_BT.to(device)}
    with _without_settings(unwrapped(model), GenerationConfig()):
        try:
            output_BT: Tensor = model.generate(**inputs, **hooks, generation_config=config)
        except RuntimeError as error:
            half = _half_among_float32(model)
            if half is None or is_out_of_memory(error):
                raise
            # Such a model trains under autocast; the trainer's own does not reach into generate().
            with torch.autocast(device.type, dtype=half):
                output_BT = model.generate(**inputs, **hooks, generation_config=config)
    return output_BT.cpu().numpy()


@contextmanager
def _without_settings(base: Any, bare: Any) -> Generator[None]:
    """What a call leaves open, such as a repetition penalty, Transformers takes from the model's settings."""
    own = base.generation_config
    base.generation_config = bare
    try:
        yield
    finally:
        base.generation_config = own


def _half_among_float32(model: Any) -> torch.dtype | None:
    """The half precision of a model that has parts in float32 too; None where all parts are of one kind."""
    dtypes: set[torch.dtype] = {p.dtype for p in model.parameters()}
    half = [dtype for dtype in (torch.bfloat16, torch.float16) if dtype in dtypes]
    return half[0] if half and torch.float32 in dtypes else None
