"""The proof, on a few tokens, that a route gives the numbers of the plain model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from loguru import logger
from numpy.typing import NDArray
from torch import Tensor

from fettle.data.sequence import Sequence
from fettle.scoring.decoder import device_of, first, run_model, unwrapped, virtual_tokens
from fettle.scoring.forward import (
    hidden_states,
    hidden_statistics,
    lay_out,
    model_statistics,
    module_logits,
    vocabulary,
)
from fettle.scoring.layout import pad
from fettle.scoring.plan import Piece, whole_pieces
from fettle.scoring.route import Route
from fettle.scoring.statistics import TokenStatistics, logit_statistics

PREFIX, OWN = 6, (9, 5, 7)
"""Tokens that the first two probe sequences share, and those each of the three has to itself."""

# What a model that cannot go this way raises; anything else is a defect and shows.
CANNOT = (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError, NotImplementedError)


@torch.no_grad()
def proved(model: Any, route: Route) -> bool:
    """Whether a route equals `model(input_ids).logits`, one sequence at a time and unpadded.

    Three proofs. The numbers agree. Packed neighbours do not touch each other: hidden
    states of one sequence stay when the others' tokens change, which small effects in
    fresh weights could hide from the first proof. The head agrees on hidden states of
    large spread, where a forgotten soft-cap or scale cannot hide.
    """
    try:
        failure = _failure(model, route)
    except CANNOT as error:
        failure = f"it does not run: {type(error).__name__}: {error}"
    if failure:
        logger.debug("{} cannot be scored by {}: {}", type(unwrapped(model)).__name__, route, failure)
    return failure is None


def _failure(model: Any, route: Route) -> str | None:
    generator = np.random.default_rng(0)
    sequences = _probe_sequences(generator, model)
    largest, difference = _difference(model, route, sequences)
    if not difference <= _tolerance(model, largest):
        return f"log-probabilities differ by {difference:.2e}"
    if route.layout == "packed" and (moved := _leak(model, route, sequences, generator)):
        return f"a sequence moves by {moved:.2e} when its neighbours change"
    if route.head in ("tiled", "module"):
        largest, difference = _head_difference(model, route)
        if not difference <= _tolerance(model, largest):
            return f"log-probabilities of large logits differ by {difference:.2e}"
    return None


def _tolerance(model: Any, largest_logit: float) -> float:
    """The plain model rounds its logits to its own precision; a few such steps are granted.

    Float32 differs by the order of sums in every layer, far above its last digit.
    """
    dtype = unwrapped(model).dtype
    steps = 64 if dtype == torch.float32 else 2
    return steps * torch.finfo(dtype).eps * max(1.0, largest_logit)


def _probe_sequences(generator: np.random.Generator, model: Any) -> list[Sequence]:
    prefix = generator.integers(0, vocabulary(model), PREFIX)
    starts: list[NDArray[np.int64]] = [prefix, prefix, prefix[:0]]
    tails = [generator.integers(0, vocabulary(model), n) for n in OWN]
    whole = [np.concatenate([start, tail]) for start, tail in zip(starts, tails, strict=True)]
    return [Sequence(ids, np.arange(ids.size) > ids.size - 4) for ids in whole]


def _pieces(sequences: list[Sequence], route: Route) -> list[Piece]:
    pieces = whole_pieces(sequences, range(len(sequences)))
    if route.layout == "packed":
        pieces[1] = Piece(1, PREFIX, pieces[1].stop)
    return pieces


def _statistics(model: Any, route: Route, sequences: list[Sequence], pieces: list[Piece]) -> TokenStatistics:
    layout = lay_out(model, sequences, pieces, route)
    if route.head in ("kept", "full"):
        return model_statistics(model, layout, route)
    return hidden_statistics(model, hidden_states(model, layout)[0], layout.targets, route)


def _difference(model: Any, route: Route, sequences: list[Sequence]) -> tuple[float, float]:
    """Largest logit of the plain model, and largest difference of a log-probability from it."""
    pieces = _pieces(sequences, route)
    passes = [[piece] for piece in pieces] if route.layout == "single" else [pieces]
    got = torch.cat([_statistics(model, route, sequences, some).logprob for some in passes])
    logits_PV = torch.cat([_plain_logits(model, sequence) for sequence in sequences])
    targets_P = pad(sequences, whole_pieces(sequences, range(3)), device_of(model)).targets
    expected = logit_statistics(logits_PV, targets_P).logprob
    return float(logits_PV.abs().max()), float((got - expected).abs().max())


def _plain_logits(model: Any, sequence: Sequence) -> Tensor:
    ids = torch.from_numpy(sequence.input_ids)[None].to(device_of(model))
    logits_TV = run_model(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})[0]
    rows_P = np.flatnonzero(sequence.loss_mask) - 1
    return logits_TV[rows_P + virtual_tokens(model)].float()


def _leak(model: Any, route: Route, sequences: list[Sequence], generator: np.random.Generator) -> float:
    """How far the second sequence's hidden states move when the others' own tokens change.

    As a share of the largest; 0.0 within the last digit. Shapes are the same, so a
    dense model that keeps them apart moves by nothing at all.
    """
    pieces = _pieces(sequences, route)
    changed = [_other_tail(sequences[0], PREFIX, generator, model), sequences[1]]
    changed.append(_other_tail(sequences[2], 0, generator, model))
    before, after = (
        hidden_states(model, lay_out(model, some, pieces, route))[0][3:6].float()  # its three positions
        for some in (sequences, changed)
    )
    moved = float((before - after).abs().max() / before.abs().max())
    return moved if moved > torch.finfo(unwrapped(model).dtype).eps else 0.0


def _other_tail(sequence: Sequence, start: int, generator: np.random.Generator, model: Any) -> Sequence:
    ids = sequence.input_ids.copy()
    ids[start:] = generator.integers(0, vocabulary(model), ids.size - start)
    return Sequence(ids, sequence.loss_mask)


def _head_difference(model: Any, route: Route) -> tuple[float, float]:
    """The same for random hidden states whose raw logits spread by 30, through the model's own head."""
    base = unwrapped(model)
    weight = base.get_output_embeddings().weight
    P, D = 4, int(first_width(model))
    hidden_PD = torch.randn(P, D, generator=torch.Generator().manual_seed(0)).to(device_of(model), base.dtype)
    spread = module_logits(model, hidden_PD).std()
    hidden_PD = (hidden_PD.float() * (30.0 / spread)).to(base.dtype)
    ids = torch.arange(P, device=device_of(model))[None] % weight.shape[0]

    def replace(module: Any, args: Any, output: Any) -> Any:
        if hasattr(output, "last_hidden_state"):
            output.last_hidden_state = hidden_PD[None]
            return output
        return (hidden_PD[None], *output[1:])

    hook = base.base_model.register_forward_hook(replace)
    try:
        logits_PV = run_model(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})[0].float()
    finally:
        hook.remove()
    expected = logit_statistics(logits_PV, ids[0]).logprob
    got = hidden_statistics(model, hidden_PD, ids[0], route).logprob
    return float(logits_PV.abs().max()), float((got - expected).abs().max())


def first_width(model: Any) -> int:
    """Width of the hidden states that enter the head."""
    base = unwrapped(model)
    ids = torch.zeros(1, 1, dtype=torch.long, device=device_of(model))
    return first(base.base_model(input_ids=ids, use_cache=False)).shape[-1]
