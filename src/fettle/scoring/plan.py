"""Which tokens run in which forward pass: shared prefixes once, batches by token budget."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Collection
from dataclasses import dataclass
from typing import Any

from fettle.data.sequence import Sequence

# A shared prefix costs its children a mask and a copy of its keys and values: below this many
# tokens it saves nothing.
MIN_SHARED_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Piece:
    """The tokens [reused, stop) of one sequence, which a forward pass runs.

    Keys and values of the first `reused` tokens stand from the piece before, which
    begins with the same tokens. Positions from `stop` on predict nothing that counts.
    """

    sequence: int
    reused: int
    stop: int

    @property
    def tokens(self) -> int:
        return self.stop - self.reused


def needed_tokens(sequence: Sequence) -> int:
    """Tokens that must run: those before the last completion token."""
    return int(sequence.loss_mask.nonzero()[0][-1])


def whole_pieces(sequences: Collection[Sequence], indices: Iterable[int]) -> list[Piece]:
    """Pieces that share nothing, in the order given."""
    return [Piece(i, 0, needed_tokens(sequences[i])) for i in indices]


def shared_pieces(sequences: Collection[Sequence], indices: Iterable[int]) -> list[Piece]:
    """Pieces in the order of their tokens, so that what two sequences share stands next to each other.

    The position that predicts the first completion token always runs, so nothing
    that counts lies in a shared part.
    """
    order = sorted(indices, key=lambda i: sequences[i].input_ids.astype(">u4").tobytes())
    pieces: list[Piece] = []
    for i in order:
        stop = needed_tokens(sequences[i])
        reused = 0
        if pieces:
            before = pieces[-1]
            limit = min(int(sequences[i].loss_mask.argmax()) - 1, before.stop)
            reused = _common(sequences[before.sequence], sequences[i], limit)
        pieces.append(Piece(i, reused if reused >= MIN_SHARED_TOKENS else 0, stop))
    return pieces


def _common(a: Sequence, b: Sequence, limit: int) -> int:
    """Length of the common prefix of two sequences, at most `limit`."""
    if limit < MIN_SHARED_TOKENS:
        return 0
    differs = a.input_ids[:limit] != b.input_ids[:limit]
    return int(differs.argmax()) if differs.any() else limit


def take(pieces: Collection[Piece], at: int, budget: int, *, padded: bool) -> int:
    """Index after the last piece that fits, with those from `at` on, into one pass of `budget` tokens.

    Padding counts. A piece longer than the budget stands alone.
    """
    widest = total = 0
    for stop in range(at, len(pieces)):
        widest, total = max(widest, pieces[stop].tokens), total + pieces[stop].tokens
        if stop > at and (widest * (stop - at + 1) if padded else total) > budget:
            return stop
    return len(pieces)


def length_regimes(config: Any, lengths: Collection[int]) -> list[list[int]]:
    """Indices of sequences that may share a forward pass, longest regime first.

    Where rotary frequencies depend on the longest position in the batch
    (`longrope`, `dynamic`), a short sequence beside a long one would get other
    numbers than by itself.
    """
    rope: Any = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kind = rope.get("rope_type", rope.get("type"))
    if kind not in ("longrope", "dynamic"):
        return [list(range(len(lengths)))]
    original = rope.get("original_max_position_embeddings")
    original = original or getattr(config, "original_max_position_embeddings", None)
    original = int(original or config.max_position_embeddings)
    regime = {i: 0 if n <= original else (1 if kind == "longrope" else n) for i, n in enumerate(lengths)}
    return [[i for i in regime if regime[i] == value] for value in sorted(set(regime.values()), reverse=True)]


def share_saved(pieces: Collection[Piece]) -> float:
    """Share of the tokens that need not run, because they stand already."""
    return sum(piece.reused for piece in pieces) / max(1, sum(piece.stop for piece in pieces))


def by_length(pieces: Collection[Piece]) -> list[Piece]:
    """Longest first: a batch pads little, and memory is short in the first batch or never."""
    return sorted(pieces, key=lambda piece: -piece.tokens)


def count_tokens(pieces: Collection[Piece]) -> int:
    """Tokens that the pieces run."""
    return sum(piece.tokens for piece in pieces)
