"""Per-token results of one sample as bytes, and the key that names them."""

from __future__ import annotations

from collections.abc import Sequence as Collection

import numpy as np
import xxhash
from numpy.typing import NDArray

from fettle.data.sequence import Sequence
from fettle.scoring.scores import Scores, collect

# Grows whenever the engine gives another number for the same weights and tokens.
ENGINE_VERSION = 1
COLUMNS = 4


def sample_key(sequence: Sequence, weights: str, precision: str) -> bytes:
    """XXH3-128 of everything that the results of a sample depend on.

    Template, tokenizer and truncation act through the token ids and the loss mask. `precision` names
    type and attention. Never a path, a name or a place in a file.
    """
    digest = xxhash.xxh3_128(
        f"teacher-forced {ENGINE_VERSION} {weights} {precision} {len(sequence)} ".encode()
    )
    digest.update(np.ascontiguousarray(sequence.input_ids).tobytes())
    digest.update(np.packbits(sequence.loss_mask).tobytes())
    return digest.digest()


def pack(scores: Scores, sample: int) -> bytes:
    """Log-probability, confidence, entropy and argmax of each completion token, 32 bytes a token."""
    part = slice(int(scores.offsets[sample]), int(scores.offsets[sample + 1]))
    columns = (scores.logprob, scores.confidence, scores.entropy, scores.predicted)
    return b"".join(np.ascontiguousarray(column[part]).tobytes() for column in columns)


def unpack(values: Collection[bytes], sequences: Collection[Sequence]) -> Scores | None:
    """The scores of sequences from their packed values; None where a value is not of its sequence."""
    tokens = np.array([sequence.completion_tokens for sequence in sequences], dtype=np.int64)
    if any(len(value) != 8 * COLUMNS * n for value, n in zip(values, tokens, strict=True)):
        return None
    offsets = np.concatenate([[0], np.cumsum(tokens)])
    table = [np.frombuffer(value, dtype=np.float64).reshape(COLUMNS, -1) for value in values]
    rows_4T = np.concatenate([np.zeros((COLUMNS, 0)), *table], axis=1)
    empty: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
    targets_T = np.concatenate([empty, *(s.input_ids[s.loss_mask] for s in sequences)])
    predicted_T = np.ascontiguousarray(rows_4T[3]).view(np.int64)
    return collect(targets_T, offsets, rows_4T[0].copy(), predicted_T, rows_4T[1].copy(), rows_4T[2].copy())
