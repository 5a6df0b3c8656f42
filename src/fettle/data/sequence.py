"""The unit that training and scoring share: token ids and which of them count."""

from __future__ import annotations

from collections.abc import Sequence as Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fettle.errors import DataError


@dataclass(frozen=True, slots=True, init=False, eq=False)
class Sequence:
    """Token ids of one example and the mask of those that carry loss.

    `input_ids` is int64 [T]; `loss_mask` is bool [T] and true where the token
    is part of the completion, so that position t is *predicted* from the
    tokens before it. The first token has no context and can carry no loss.
    Raises DataError when the two differ in length or nothing is there.
    """

    input_ids: NDArray[np.int64]
    loss_mask: NDArray[np.bool_]

    def __init__(
        self,
        input_ids: Iterable[int] | NDArray[np.int64],
        loss_mask: Iterable[int] | Iterable[bool] | NDArray[np.bool_],
    ) -> None:
        ids_T = np.asarray(input_ids, dtype=np.int64)
        mask_T = np.asarray(loss_mask).astype(np.bool_)
        if ids_T.ndim != 1 or ids_T.shape != mask_T.shape or ids_T.size == 0:
            raise DataError(
                f"a sequence needs one loss_mask entry per token and at least one token, "
                f"not input_ids {ids_T.shape} and loss_mask {mask_T.shape}"
            )
        if mask_T[0]:
            mask_T = mask_T.copy()
            mask_T[0] = False
        object.__setattr__(self, "input_ids", ids_T)
        object.__setattr__(self, "loss_mask", mask_T)

    def __len__(self) -> int:
        return int(self.input_ids.size)

    @property
    def completion_tokens(self) -> int:
        """Number of tokens that carry loss."""
        return int(self.loss_mask.sum())

    @property
    def completion_spans(self) -> list[tuple[int, int]]:
        """First and past-the-last place of each run of completion tokens: a chat may have several answers."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], self.loss_mask.astype(np.int8), [0]])))
        return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
