"""How pieces lie in one forward pass: one after another in a single row, or padded side by side."""

from __future__ import annotations

from collections.abc import Sequence as Collection
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fettle.data.sequence import Sequence
from fettle.scoring.plan import Piece

# Short neighbours with the same context attend in one call under a block mask; above this many
# rows the mask's quadratic cost outweighs the calls it saves.
MERGED_ROWS = 128

Span = tuple[int, int]
"""Keys [start, stop) of a packed pass: those carried over first, then those of its own row."""


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring rows that attend together: each segment sees the context, then itself causally."""

    context: tuple[Span, ...]
    """Keys of the tokens before every segment."""
    lengths: tuple[int, ...]
    """Rows of each segment."""

    @property
    def rows(self) -> int:
        return sum(self.lengths)

    @property
    def seen(self) -> int:
        return sum(stop - start for start, stop in self.context)


@dataclass(frozen=True, slots=True)
class Layout:
    """Input of one forward pass and where its predictions stand."""

    input_ids: Tensor
    """[B, T]"""
    position_ids: Tensor
    """[B, T]"""
    attention_mask: Tensor | None
    """[B, T], 1 at real tokens; None when packed."""
    blocks: tuple[Block, ...]
    """Of a packed row, in order; () when padded."""
    keep: tuple[Span, ...]
    """Keys that the next packed pass reuses."""
    rows: Tensor
    """Flat positions (b · T + t) whose hidden state predicts a completion token."""
    targets: Tensor
    """Those completion tokens, piece after piece."""


def pack(
    sequences: Collection[Sequence], pieces: Collection[Piece], device: torch.device, keep: int = 0
) -> Layout:
    """One row without padding.

    The first piece's reused keys are carried over from the pass before. `keep` is how
    many keys of the last sequence's tokens the next pass reuses.
    """
    carried = pieces[0].reused
    path: tuple[Span, ...] = ((0, carried),) if carried else ()
    blocks: list[Block] = []
    rows: list[NDArray[np.int64]] = []
    at = 0
    for piece in pieces:
        path = _truncated(path, piece.reused)
        blocks.append(Block(path, (piece.tokens,)))
        rows.append(_predicting(sequences[piece.sequence]) - piece.reused + at)
        path = (*path, (carried + at, carried + at + piece.tokens))
        at += piece.tokens
    return Layout(
        input_ids=_tensor([sequences[p.sequence].input_ids[p.reused : p.stop] for p in pieces], device)[None],
        position_ids=_tensor([np.arange(p.reused, p.stop) for p in pieces], device)[None],
        attention_mask=None,
        blocks=_merged(blocks),
        keep=_truncated(path, keep),
        rows=_tensor(rows, device),
        targets=_targets(sequences, pieces, device),
    )


def pad(sequences: Collection[Sequence], pieces: Collection[Piece], device: torch.device) -> Layout:
    """One row a piece, padded on the right; a causal model never sees the padding."""
    width = max(piece.stop for piece in pieces)
    ids_BT = np.zeros((len(pieces), width), dtype=np.int64)
    mask_BT = np.zeros((len(pieces), width), dtype=np.int64)
    rows: list[NDArray[np.int64]] = []
    for b, piece in enumerate(pieces):
        sequence = sequences[piece.sequence]
        ids_BT[b, : piece.stop], mask_BT[b, : piece.stop] = sequence.input_ids[: piece.stop], 1
        rows.append(_predicting(sequence) + b * width)
    positions_BT = np.minimum(np.arange(width), mask_BT.sum(axis=1, keepdims=True) - 1)
    return Layout(
        input_ids=torch.from_numpy(ids_BT).to(device),
        position_ids=torch.from_numpy(positions_BT).to(device),
        attention_mask=torch.from_numpy(mask_BT).to(device),
        blocks=(),
        keep=(),
        rows=_tensor(rows, device),
        targets=_targets(sequences, pieces, device),
    )


def _predicting(sequence: Sequence) -> NDArray[np.int64]:
    """The positions before the completion tokens."""
    return np.flatnonzero(sequence.loss_mask) - 1


def _targets(sequences: Collection[Sequence], pieces: Collection[Piece], device: torch.device) -> Tensor:
    chosen = [sequences[piece.sequence] for piece in pieces]
    return _tensor([sequence.input_ids[sequence.loss_mask] for sequence in chosen], device)


def _tensor(parts: list[NDArray[np.int64]], device: torch.device) -> Tensor:
    return torch.from_numpy(np.concatenate(parts)).to(device)


def _truncated(path: tuple[Span, ...], length: int) -> tuple[Span, ...]:
    """The first `length` keys of a path."""
    kept: list[Span] = []
    for start, stop in path:
        if length <= 0:
            break
        kept.append((start, min(stop, start + length)))
        length -= stop - start
    return tuple(kept)


def _merged(blocks: Collection[Block]) -> tuple[Block, ...]:
    merged: list[Block] = []
    for block in blocks:
        last = merged[-1] if merged else None
        if last and last.context == block.context and last.rows + block.rows <= MERGED_ROWS:
            merged[-1] = Block(last.context, last.lengths + block.lengths)
        else:
            merged.append(block)
    return tuple(merged)
