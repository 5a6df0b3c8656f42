"""How sequences lie in one forward pass: packed as a forest, or padded."""

from __future__ import annotations

from collections.abc import Sequence as Collection
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fettle.data.sequence import Sequence

# A shared prefix costs a mask and a copy of its keys per child: below this it saves nothing.
MIN_SHARED_TOKENS = 24


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens [start, stop) of a packed row; they see `parent`'s tokens, then themselves causally."""

    start: int
    stop: int
    parent: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """Input of one forward pass and where its predictions stand."""

    input_ids: Tensor
    """[B, T]"""
    position_ids: Tensor
    """[B, T]"""
    attention_mask: Tensor | None
    """[B, T], 1 at real tokens; None when packed."""
    segments: tuple[Segment, ...]
    """Of a packed row; () when padded."""
    rows_P: Tensor
    """Flat positions (b · T + t) whose hidden state predicts a completion token."""
    targets_P: Tensor
    """Those completion tokens, in the order of the sequences."""


@dataclass(frozen=True, slots=True)
class Group:
    """Sequences (by index) whose first `shared` tokens are the same; alone, or shared = 0."""

    members: tuple[int, ...]
    shared: int = 0


def share_prefixes(sequences: Collection[Sequence]) -> list[Group]:
    """Group sequences so that the forward pass runs common prompt prefixes once.

    Only tokens before the first completion token are shared. Sequences are
    sorted by their tokens and cut where one more member would save less.
    """
    order = sorted(range(len(sequences)), key=lambda i: sequences[i].input_ids.tolist())
    groups: list[Group] = []
    at = 0
    while at < len(order):
        members, shared, saved = [order[at]], _context(sequences[order[at]]), 0
        for nxt in order[at + 1 :]:
            common = min(shared, _common_prefix(sequences[members[-1]], sequences[nxt]))
            if common < MIN_SHARED_TOKENS or len(members) * common < saved:
                break
            members.append(nxt)
            shared, saved = common, (len(members) - 1) * common
        groups.append(Group(tuple(members), shared if len(members) > 1 else 0))
        at += len(members)
    return groups


def _context(sequence: Sequence) -> int:
    """Tokens before the first completion token; at least one token stays outside a shared prefix."""
    mask = sequence.loss_mask
    first = int(mask.argmax()) if mask.any() else len(sequence)
    return min(first, len(sequence) - 1)


def _common_prefix(a: Sequence, b: Sequence) -> int:
    n = min(_context(a), _context(b))
    differs = a.input_ids[:n] != b.input_ids[:n]
    return int(differs.argmax()) if differs.any() else n


def packed(sequences: Collection[Sequence], groups: Collection[Group], device: torch.device) -> Layout:
    """One row without padding; `rows_P` and `targets_P` follow the members of the groups in order."""
    ids: list[NDArray[np.int64]] = []
    positions: list[NDArray[np.int64]] = []
    segments: list[Segment] = []
    rows: list[NDArray[np.int64]] = []
    targets: list[NDArray[np.int64]] = []
    length = 0

    def add(tokens: NDArray[np.int64], first_position: int, parent: tuple[int, int] | None) -> int:
        nonlocal length
        start = length
        ids.append(tokens)
        positions.append(np.arange(first_position, first_position + tokens.size))
        length += tokens.size
        segments.append(Segment(start, length, parent))
        return start

    for group in groups:
        shared = group.shared
        parent = None
        if shared:
            trunk = add(sequences[group.members[0]].input_ids[:shared], 0, None)
            parent = (trunk, trunk + shared)
        for member in group.members:
            sequence = sequences[member]
            start = add(sequence.input_ids[shared:], shared, parent)
            at = np.flatnonzero(sequence.loss_mask)
            before = at - 1  # the position that predicts each of them
            trunk_start = parent[0] if parent else start
            rows.append(np.where(before < shared, trunk_start + before, start + before - shared))
            targets.append(sequence.input_ids[at])
    return Layout(
        input_ids=torch.from_numpy(np.concatenate(ids))[None].to(device),
        position_ids=torch.from_numpy(np.concatenate(positions))[None].to(device),
        attention_mask=None,
        segments=tuple(segments),
        rows_P=torch.from_numpy(np.concatenate(rows)).to(device),
        targets_P=torch.from_numpy(np.concatenate(targets)).to(device),
    )


def padded(sequences: Collection[Sequence], device: torch.device) -> Layout:
    """One row a sequence, padded on the right; a causal model never sees the padding."""
    width = max(len(sequence) for sequence in sequences)
    ids = np.zeros((len(sequences), width), dtype=np.int64)
    mask = np.zeros((len(sequences), width), dtype=np.int64)
    rows: list[NDArray[np.int64]] = []
    targets: list[NDArray[np.int64]] = []
    for b, sequence in enumerate(sequences):
        n = len(sequence)
        ids[b, :n], mask[b, :n] = sequence.input_ids, 1
        at = np.flatnonzero(sequence.loss_mask)
        rows.append(b * width + at - 1)
        targets.append(sequence.input_ids[at])
    positions = np.minimum(np.arange(width), mask.sum(axis=1, keepdims=True) - 1)
    return Layout(
        input_ids=torch.from_numpy(ids).to(device),
        position_ids=torch.from_numpy(positions).to(device),
        attention_mask=torch.from_numpy(mask).to(device),
        segments=(),
        rows_P=torch.from_numpy(np.concatenate(rows)).to(device),
        targets_P=torch.from_numpy(np.concatenate(targets)).to(device),
    )
