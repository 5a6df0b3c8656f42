"""Which texts do not show a concept, and which of them it is judged against."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.lens.concept_pack import ConceptPack
from fettle.lens.corpus import Corpus
from fettle.lens.splits import SETS

NEAR_SHARE = 0.5
"""Of the negatives of a lens; the earlier system's studies found half and half to part siblings best."""
RATIO = 5.0
"""Negatives that a lens is judged on for each positive: F1 weighs both classes alike, more only steady it."""

_NONE = np.zeros(0, dtype=np.int64)


def excluded(pack: ConceptPack, corpus: Corpus) -> Any:
    """Texts that are neither positive nor negative for a lens, a boolean CSR array, [n, c].

    Those of its ancestors and descendants; and those of which only is said that they do not show one of its
    neighbours: they may show it. What was said of a text itself stands above both.
    """
    from scipy.sparse import csr_array

    shown, denied = corpus.membership(), corpus.membership(label=False)
    relatives_CC = _links(corpus, [pack.ancestors(c) | pack.descendants(c) for c in corpus.concepts])
    near_CC = _links(corpus, [pack.siblings(c) | pack.opposites(c) for c in corpus.concepts])
    only_denied_N = np.diff(shown.indptr) == 0
    doubted = csr_array(denied.multiply(only_denied_N[:, None])) @ (relatives_CC + near_CC)
    known = csr_array(shown + denied)
    maybe = csr_array(shown @ relatives_CC + doubted).astype(np.bool_)
    return csr_array(maybe > known)


class JudgedNegatives:
    """Draws the negatives that lenses are judged on, set by set."""

    def __init__(
        self,
        pack: ConceptPack,
        corpus: Corpus,
        barred: Any | None = None,
        *,
        ratio: float = RATIO,
        near_share: float = NEAR_SHARE,
        seed: int = 0,
    ) -> None:
        """`barred` is what `excluded` gives, where it is known already."""
        self._ratio, self._near_share, self._seed = ratio, near_share, seed
        self._shape = (len(corpus), len(corpus.concepts))
        self._shown = _by_column(corpus.membership())
        self._denied = _by_column(corpus.membership(label=False))
        self._barred = _by_column(excluded(pack, corpus) if barred is None else barred)
        rows_of = dict(zip(corpus.concepts, self._shown, strict=True))
        self._near = [
            np.unique(np.concatenate([_NONE, *(rows_of[n] for n in names if n in rows_of)]))
            for names in (pack.siblings(name) | pack.opposites(name) for name in corpus.concepts)
        ]
        self._branches = [pack.branches(name) for name in corpus.concepts]
        self._in_branch = _rows_of_branches(self._branches, self._shown, len(corpus))

    def of(self, sets_N: NDArray[np.int8]) -> Any:
        """Of each lens and set up to `ratio` negatives a positive, a boolean CSR array, [n, c].

        Rows whose set is negative take no part. Texts labelled so come first; of the rest `near_share` are of
        siblings and curated opposites, the others of branches that the concept does not belong to. As many
        as keep that share; where that is fewer than there are positives, the other kind fills up, and then
        whatever else is negative. So what an F1 means does not hang on how many concepts a pack holds. What
        is drawn for a set does not hang on the other sets.
        """
        from scipy.sparse import csc_array, csr_array

        parts = [np.flatnonzero(sets_N == part) for part in range(len(SETS))]
        mixed = [np.random.default_rng([self._seed, k]).permutation(rows) for k, rows in enumerate(parts)]
        columns: list[NDArray[np.int64]] = []
        for j in range(self._shape[1]):
            drawn = [self._draw(j, part, sets_N, rows) for part, rows in enumerate(mixed)]
            columns.append(np.sort(np.concatenate(drawn)))
        ends = np.cumsum([0, *map(len, columns)])
        flat = np.concatenate(columns)
        return csr_array(csc_array((np.ones(len(flat), dtype=np.bool_), flat, ends), shape=self._shape))

    def _draw(
        self, j: int, part: int, sets_N: NDArray[np.int8], mixed: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Of one lens in one set; `mixed` are the rows of the set in an order drawn once."""
        own = self._shown[j]
        fewest = int((sets_N[own] == part).sum())
        most = round(self._ratio * fewest)
        rng = np.random.default_rng([self._seed, j, part])
        said = self._denied[j][sets_N[self._denied[j]] == part]
        said = rng.permutation(said)[:most]
        apart = np.concatenate([own, self._barred[j], said])
        near = np.setdiff1d(self._near[j], apart)
        near = rng.permutation(near[sets_N[near] == part])
        start = int(rng.integers(len(mixed))) if len(mixed) else 0

        def elsewhere(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
            same = [self._in_branch[branch][rows] for branch in self._branches[j]]
            return ~np.logical_or.reduce(same) & ~np.isin(rows, apart)

        distant = _first(mixed, start, most, elsewhere)
        shares = ((near, self._near_share), (distant, 1 - self._near_share))
        in_share = min((len(pool) / share for pool, share in shares if len(pool) and share > 0), default=0)
        wanted = min(most - len(said), max(fewest - len(said), int(in_share)))
        of_near = min(len(near), round(wanted * self._near_share))
        of_distant = min(len(distant), wanted - of_near)
        drawn = np.concatenate([near[:of_near], distant[:of_distant], near[of_near:], distant[of_distant:]])
        if len(drawn) < wanted:
            taken = np.concatenate([apart, drawn])
            others = _first(mixed, start, wanted - len(drawn), lambda rows: ~np.isin(rows, taken))
            drawn = np.concatenate([drawn, others])
        return np.unique(np.concatenate([said, drawn[:wanted]]))


def _first(
    rows: NDArray[np.int64],
    start: int,
    wanted: int,
    fits: Callable[[NDArray[np.int64]], NDArray[np.bool_]],
) -> NDArray[np.int64]:
    """The first so many rows that fit, once round from `start`, piece by piece: mostly they come early."""
    found: list[NDArray[np.int64]] = [_NONE]
    count, at, step = 0, 0, 4 * wanted
    while count < wanted and at < len(rows):
        piece = rows.take(np.arange(start + at, start + min(at + step, len(rows))), mode="wrap")
        found.append(piece[fits(piece)])
        count, at = count + len(found[-1]), at + step
    return np.concatenate(found)[:wanted]


def _by_column(matrix: Any) -> list[NDArray[np.int64]]:
    """Rows of each column that are true."""
    from scipy.sparse import csc_array

    columns = csc_array(matrix)
    columns.sort_indices()
    return [part.astype(np.int64) for part in np.split(columns.indices, columns.indptr[1:-1])]


def _rows_of_branches(
    branches: Sequence[Collection[str]], shown: Sequence[NDArray[np.int64]], n: int
) -> dict[str, NDArray[np.bool_]]:
    """Of each top of the ontology the texts that show something below it, [n]."""
    found: dict[str, NDArray[np.bool_]] = {}
    for tops, rows in zip(branches, shown, strict=True):
        for top in tops:
            found.setdefault(top, np.zeros(n, dtype=np.bool_))[rows] = True
    return found


def _links(corpus: Corpus, related: list[Collection[str]]) -> Any:
    """Which concept is related to which, CSR [c, c], numbers to be multiplied with."""
    from scipy.sparse import csr_array

    column = {name: j for j, name in enumerate(corpus.concepts)}
    pairs = [(column[other], j) for j, names in enumerate(related) for other in names if other in column]
    at = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    size = len(column)
    return csr_array((np.ones(len(at), dtype=np.int32), (at[:, 0], at[:, 1])), shape=(size, size))
