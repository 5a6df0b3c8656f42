"""Four sets that share no group: to fit, to choose, to calibrate, and a sealed test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import orjson
import xxhash
from numpy.typing import NDArray

from fettle.errors import RunError
from fettle.lens.corpus import Corpus

SetName = Literal["train", "select", "calibrate", "test"]
SETS: tuple[SetName, ...] = get_args(SetName)
# Half of what is not fitted on decides what is reported: of 50 texts of a concept 20 are in the test, the
# fewest that a grade is given for.
SHARES: dict[SetName, float] = {"train": 0.4, "select": 0.1, "calibrate": 0.1, "test": 0.4}


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Which set each text is in."""

    sets: NDArray[np.int8]
    """Index into SETS of each row, [n]."""
    lacking: dict[str, SetName]
    """Concepts that too few groups show to be in every set, with one that has none."""

    def rows(self, name: SetName) -> NDArray[np.int64]:
        """Rows of a set, rising."""
        return np.flatnonzero(self.sets == SETS.index(name))


class SealedTest:
    """The rows that nothing may be chosen by: opened once, after everything was."""

    def __init__(self, corpus: Corpus, splits: Splits) -> None:
        self._rows = splits.rows("test")
        self._opened = False
        self.hash = rows_hash(corpus, self._rows)
        """Of its texts and labels: says later whether it was this test."""

    def __len__(self) -> int:
        return len(self._rows)

    def open(self) -> NDArray[np.int64]:
        """Its rows. Raises RunError the second time."""
        if self._opened:
            raise RunError("the sealed test was opened already: what is chosen after it is not tested by it")
        self._opened = True
        return self._rows


def split(corpus: Corpus, shares: dict[SetName, float] | None = None, seed: int = 0) -> Splits:
    """Deal the groups out so that each concept has its share of texts in each set.

    Largest groups first, each to the set that lacks most of the concepts it shows.
    """
    share_S = np.array([(shares or SHARES)[name] for name in SETS])
    share_S = share_S / share_S.sum()
    group_of_N, labels_GC = _by_group(corpus)
    size_G = np.bincount(group_of_N)
    total_C = np.asarray(labels_GC.sum(axis=0)).ravel()
    lack_SC = share_S[:, None] * total_C
    lack_S = share_S * len(corpus)
    set_G = np.zeros(len(size_G), dtype=np.int8)
    for group in _dealing_order(size_G, seed):
        at, stop = labels_GC.indptr[group], labels_GC.indptr[group + 1]
        columns, counts = labels_GC.indices[at:stop], labels_GC.data[at:stop]
        wish_S = (lack_SC[:, columns] * (counts / total_C[columns])).sum(axis=1)
        best = np.flatnonzero(wish_S >= wish_S.max() - 1e-9)
        chosen = best[lack_S[best].argmax()]
        set_G[group] = chosen
        lack_SC[chosen, columns] -= counts
        lack_S[chosen] -= size_G[group]
    sets_N = set_G[group_of_N]
    return Splits(sets_N, _lacking(corpus, sets_N))


def rows_hash(corpus: Corpus, rows: NDArray[np.int64]) -> str:
    """XXH3-128 of the texts and labels of some rows, in any order."""
    chosen = [corpus.rows[int(i)] for i in rows]
    parts = [orjson.dumps([row.text, sorted(row.positive), sorted(row.negative)]) for row in chosen]
    return xxhash.xxh3_128_hexdigest(b"\n".join(sorted(parts)))


def _by_group(corpus: Corpus) -> tuple[NDArray[np.int64], Any]:
    """Group of each row, counted from 0, and how many texts of a group show each concept, CSR [g, c]."""
    from scipy.sparse import csr_array

    _, group_of_N = np.unique(corpus.groups, return_inverse=True)
    n = len(corpus)
    which_GN = csr_array((np.ones(n), (group_of_N, np.arange(n))), shape=(int(group_of_N.max()) + 1, n))
    return group_of_N, csr_array(which_GN @ corpus.membership().astype(np.float64))


def _dealing_order(size_G: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Largest first, those of one size at random."""
    shuffled = np.random.default_rng(seed).permutation(len(size_G))
    return shuffled[np.argsort(-size_G[shuffled], kind="stable")]


def _lacking(corpus: Corpus, sets_N: NDArray[np.int8]) -> dict[str, SetName]:
    membership = corpus.membership()
    lacking: dict[str, SetName] = {}
    for part, name in enumerate(SETS):
        shown_C = np.asarray(membership[sets_N == part].sum(axis=0)).ravel()
        for j in np.flatnonzero(shown_C == 0):
            lacking.setdefault(corpus.concepts[j], name)
    return lacking
