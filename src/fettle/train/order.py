"""Which examples make up which step: a pure function of lengths, seed and step."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Sorting by length inside pools this many steps wide leaves under 10 % padding on chat data,
# while which examples meet in a pool still changes every epoch. A pool of one step is no bucket.
POOL_STEPS = 32


class BatchOrder:
    """Seeded, shuffled batches of every epoch, bucketed by length unless told otherwise.

    Steps count from 1. `batch(step)` depends on nothing but the constructor's
    arguments and the step, so a resumed run sees the batches that the
    uninterrupted one would have seen.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        *,
        examples_per_step: int,
        epochs: int,
        seed: int,
        max_steps: int | None = None,
        bucketed: bool = True,
    ) -> None:
        self._lengths_N = np.asarray(lengths, dtype=np.int64)
        self._size = examples_per_step
        self._pool = examples_per_step * (POOL_STEPS if bucketed else 1)
        self._seed = seed
        self.steps_per_epoch = -(-self._lengths_N.size // examples_per_step)
        whole = self.steps_per_epoch * epochs
        self.total_steps = whole if max_steps is None else min(max_steps, whole)
        self._epoch_batches = lru_cache(maxsize=2)(self._shuffle_epoch)

    def batch(self, step: int) -> NDArray[np.int64]:
        """Indices of the examples of a step, longest first."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        return self._epoch_batches(epoch)[position]

    def epoch(self, step: int) -> float:
        """Epochs completed once this step is done, e.g. 1.5."""
        return step / self.steps_per_epoch

    def position(self, step: int) -> dict[str, int]:
        """Where the data stands after this step: the seed of the order, whole epochs, batches of the next."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        return {"seed": self._seed, "epoch": epoch, "batch": batch}

    def ends_epoch(self, step: int) -> bool:
        return step % self.steps_per_epoch == 0

    def _shuffle_epoch(self, epoch: int) -> list[NDArray[np.int64]]:
        rng = np.random.default_rng([self._seed, epoch])
        shuffled_N = rng.permutation(self._lengths_N.size)
        batches: list[NDArray[np.int64]] = []
        for start in range(0, shuffled_N.size, self._pool):
            pool_P = shuffled_N[start : start + self._pool]
            by_length_P = pool_P[np.argsort(-self._lengths_N[pool_P], kind="stable")]
            batches += [by_length_P[i : i + self._size] for i in range(0, by_length_P.size, self._size)]
        return [batches[i] for i in rng.permutation(len(batches))]
