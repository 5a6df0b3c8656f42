"""Which texts do not show a concept, and which of them it is judged against."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.lens.concept_pack import ConceptPack
from fettle.lens.corpus import Corpus
from fettle.lens.splits import SETS, Splits

NEAR_SHARE = 0.5
"""Of the negatives of a lens; the earlier system's studies found half and half to part siblings best."""
RATIO = 5.0
"""Negatives that a lens is judged on for each positive: F1 weighs both classes alike, more only steady it."""


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


def judged_negatives(
    pack: ConceptPack,
    corpus: Corpus,
    splits: Splits,
    *,
    ratio: float = RATIO,
    near_share: float = NEAR_SHARE,
    seed: int = 0,
) -> Any:
    """Of each lens and set up to `ratio` negatives a positive, a boolean CSR array, [n, c].

    Texts labelled so come first; of the rest `near_share` are of siblings and curated opposites, the others
    of branches that the concept does not belong to. As many as keep that share; where that is fewer than
    there are positives, the other kind fills up, and then whatever else is negative. So what an F1 means does
    not hang on how many concepts a pack holds. What is drawn for a set does not hang on the other sets.
    """
    from scipy.sparse import csc_array, csr_array

    shown, barred = csc_array(corpus.membership()), csc_array(excluded(pack, corpus))
    denied = csc_array(corpus.membership(label=False))
    rows_of = {name: _column(shown, j) for j, name in enumerate(corpus.concepts)}
    branches = {name: pack.branches(name) for name in corpus.concepts}
    in_branch = _rows_of_branches(branches, rows_of, len(corpus))
    columns: list[NDArray[np.int64]] = []
    for j, name in enumerate(corpus.concepts):
        allowed_N = np.ones(len(corpus), dtype=np.bool_)
        allowed_N[_column(shown, j)] = allowed_N[_column(barred, j)] = False
        near_N, same_N = np.zeros_like(allowed_N), np.zeros_like(allowed_N)
        for other in pack.siblings(name) | pack.opposites(name):
            near_N[rows_of.get(other, [])] = True
        for branch in branches[name]:
            same_N |= in_branch[branch]
        kinds = [near_N, ~near_N & ~same_N, ~near_N & same_N]
        pools_by_kind = [_column(denied, j), *(np.flatnonzero(kind_N & allowed_N) for kind_N in kinds)]
        chosen: list[NDArray[np.int64]] = []
        for part in range(len(SETS)):
            inside = splits.sets == part
            positives = int(inside[_column(shown, j)].sum())
            rng = np.random.default_rng([seed, j, part])
            pools = [rng.permutation(kind[inside[kind]]) for kind in pools_by_kind]
            chosen.append(_draw(pools, positives, round(ratio * positives), near_share))
        columns.append(np.sort(np.concatenate(chosen)))
    ends = np.cumsum([0, *map(len, columns)])
    flat = np.concatenate(columns)
    shape = (len(corpus), len(corpus.concepts))
    return csr_array(csc_array((np.ones(len(flat), dtype=np.bool_), flat, ends), shape=shape))


def _rows_of_branches(
    branches: Mapping[str, Collection[str]], rows_of: Mapping[str, NDArray[np.int64]], n: int
) -> dict[str, NDArray[np.bool_]]:
    """Of each top of the ontology the texts that show something below it, [n]."""
    found: dict[str, NDArray[np.bool_]] = {}
    for name, tops in branches.items():
        for top in tops:
            found.setdefault(top, np.zeros(n, dtype=np.bool_))[rows_of[name]] = True
    return found


def _draw(pools: list[NDArray[np.int64]], fewest: int, most: int, near_share: float) -> NDArray[np.int64]:
    """Those labelled so, then near and distant ones by share, then what is left of near, distant, others."""
    said, near, distant, others = pools
    said = said[:most]
    shares = ((near, near_share), (distant, 1 - near_share))
    in_share = min((len(pool) / share for pool, share in shares if len(pool) and share > 0), default=0)
    wanted = min(most - len(said), max(fewest - len(said), int(in_share)))
    of_near = min(len(near), round(wanted * near_share))
    of_distant = min(len(distant), wanted - of_near)
    rest = np.concatenate([near[of_near:], distant[of_distant:], others])
    drawn = np.concatenate([near[:of_near], distant[:of_distant], rest])[:wanted]
    return np.unique(np.concatenate([said, drawn]))


def _column(matrix: Any, j: int) -> NDArray[np.int64]:
    return matrix.indices[matrix.indptr[j] : matrix.indptr[j + 1]].astype(np.int64)


def _links(corpus: Corpus, related: list[Collection[str]]) -> Any:
    """Which concept is related to which, CSR [c, c], numbers to be multiplied with."""
    from scipy.sparse import csr_array

    column = {name: j for j, name in enumerate(corpus.concepts)}
    pairs = [(column[other], j) for j, names in enumerate(related) for other in names if other in column]
    at = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    size = len(column)
    return csr_array((np.ones(len(at), dtype=np.int32), (at[:, 0], at[:, 1])), shape=(size, size))
