"""What lenses are trained on: activations of one layer, who is positive for whom, and four sets of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fettle.errors import DataError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Part = Literal["train", "select", "calibrate", "test"]
PARTS: tuple[Part, ...] = ("train", "select", "calibrate", "test")


@dataclass(frozen=True, slots=True, eq=False)
class LensRows:
    """Some rows of a bank: N texts, D features, C lenses.

    Rows stand in order of the size of their group and of the group, so that each group and all groups of
    one size are contiguous.
    """

    features: Floats
    """[N, D]."""
    positive: list[Ints]
    """Of each lens, its positive rows, ascending."""
    excluded: list[Ints]
    """Of each lens, rows that are neither positive nor negative, ascending. All others are negatives."""
    judged: list[Ints] | None
    """Of each lens, the negatives its F1 is judged on; None for all of them."""
    groups: Ints
    """Numbered from 0 in the order of the rows, [N]."""
    index: Ints
    """Where each row stands in the bank, [N]."""

    @staticmethod
    def of(
        features: Floats,
        positive: sparse.csr_array[Any],
        excluded: sparse.csr_array[Any],
        groups: Ints,
        index: Ints,
        judged: sparse.csr_array[Any] | None = None,
    ) -> LensRows:
        """The rows `index` of features [N, D] and labels [N, C]."""
        _, inverse, counts = np.unique(groups[index], return_inverse=True, return_counts=True)
        order = np.lexsort((index, inverse, counts[inverse]))
        index, ordered = index[order], inverse[order]
        return LensRows(
            features=features[index],
            positive=_columns(positive, index),
            excluded=_columns(excluded, index),
            judged=None if judged is None else _columns(judged, index),
            groups=np.cumsum(np.diff(ordered, prepend=ordered[:1]) != 0),
            index=index,
        )

    def __len__(self) -> int:
        return int(self.groups.size)

    @property
    def lenses(self) -> int:
        """C."""
        return len(self.positive)

    def negative(self, lens: int) -> NDArray[np.bool_]:
        """Which rows are negatives of a lens, [N]."""
        negative_N = np.ones(len(self), dtype=np.bool_)
        negative_N[self.positive[lens]] = False
        negative_N[self.excluded[lens]] = False
        return negative_N

    def split(self, scores_NC: Floats, lens: int) -> tuple[Floats, Floats]:
        """Scores of a lens's positives and of its negatives, of those of all lenses, [N, C]."""
        return scores_NC[self.positive[lens], lens], scores_NC[self.negative(lens), lens]

    def take(self, lenses: Sequence[int]) -> LensRows:
        """The same rows for some of the lenses."""
        return replace(
            self,
            positive=[self.positive[c] for c in lenses],
            excluded=[self.excluded[c] for c in lenses],
            judged=None if self.judged is None else [self.judged[c] for c in lenses],
        )


@dataclass(frozen=True, slots=True, eq=False)
class LensProblem:
    """All lenses of one layer over one shared bank: each text once, other concepts' texts are the negatives.

    Raises DataError for what cannot be trained on: NaN, a group in two sets, a concept named twice, a lens
    without positives or without negatives in a set that is not empty.
    """

    concepts: list[str]
    features: Floats
    """Activations, or any other features of the texts, [N, D]."""
    positive: sparse.csr_array[Any]
    """Which texts show which concept, bool [N, C]."""
    excluded: sparse.csr_array[Any]
    """Texts that are neither positive nor negative, as those of ancestors and descendants, bool [N, C]."""
    groups: Ints
    """[N]: texts that resemble each other share a number, and stand in one set."""
    sets: Mapping[Part, Ints]
    """Rows of train, select (layer, penalty, stopping), calibrate and the sealed test. A set may be empty."""
    judged: sparse.csr_array[Any] | None = None
    """Negatives that F1 is judged on, as half siblings and half distant ones, bool [N, C]; None for all."""

    def __post_init__(self) -> None:
        _check_shapes(self)
        _check_finite(self.features)
        _check_sets(self)
        _check_classes(self)

    def rows(self, part: Part, *, also: Part | None = None) -> LensRows:
        """The rows of a set, or of two."""
        index = self.sets[part] if also is None else np.concatenate([self.sets[part], self.sets[also]])
        return LensRows.of(self.features, self.positive, self.excluded, self.groups, index, self.judged)

    def with_features(self, features: Floats) -> LensProblem:
        """The same texts, labels and sets seen through other features, as those of a baseline."""
        return replace(self, features=features)


def exclude_relatives(positive: sparse.csr_array[Any], related: NDArray[np.bool_]) -> sparse.csr_array[Any]:
    """Texts of related concepts that do not show the concept itself, bool [N, C].

    `related` is [C, C], true where one is ancestor or descendant of the other.
    """
    shown = positive.astype(np.int32) @ sparse.csr_array(related.astype(np.int32))
    hidden = sparse.csr_array(shown.astype(np.bool_))
    return sparse.csr_array(hidden > positive.astype(np.bool_))


def _columns(matrix: sparse.csr_array[Any], index: Ints) -> list[Ints]:
    """Rows of each column that are true, among those of `index`."""
    columns = matrix[index].tocsc()
    columns.sort_indices()
    return [part.astype(np.int64) for part in np.split(columns.indices, columns.indptr[1:-1])]


def _check_shapes(problem: LensProblem) -> None:
    n, lenses = problem.groups.size, len(problem.concepts)
    for name in ("positive", "excluded", "judged"):
        labels = getattr(problem, name)
        if labels is not None and labels.shape != (n, lenses):
            raise DataError(f"lenses: '{name}' is {labels.shape}, not {(n, lenses)}")
    if problem.features.ndim != 2 or len(problem.features) != n:
        raise DataError(f"lenses: features are {problem.features.shape}, for {n} texts")
    twice = [name for name, count in Counter(problem.concepts).items() if count > 1]
    if twice:
        raise DataError(f"lenses: concept '{twice[0]}' stands twice; give each concept one name")


def _check_finite(features: Floats) -> None:
    # A sum is finite only where all parts are, but for an overflow; only then are the parts looked at.
    sums = features.sum(1, dtype=np.float64)
    if np.isfinite(sums).all():
        return
    bad = np.flatnonzero(~np.isfinite(features).all(1))
    raise DataError(
        f"lenses: the activation of text {bad[0]} is not finite, one of {bad.size} among {len(features)}; "
        "extract them again, in float32 where bfloat16 or float16 overflows"
    )


def _check_sets(problem: LensProblem) -> None:
    owner: dict[int, Part] = {}
    for part in PARTS:
        for group in np.unique(problem.groups[problem.sets[part]]).tolist():
            if owner.setdefault(group, part) != part:
                raise DataError(
                    f"lenses: group {group} stands in '{owner[group]}' and in '{part}'; "
                    "texts of one template, lexeme and generator belong to one set"
                )


def _check_classes(problem: LensProblem) -> None:
    for part in PARTS:
        index = problem.sets[part]
        if index.size == 0 and part != "train":
            continue
        positives = problem.positive[index].sum(0)
        excluded = problem.excluded[index].sum(0)
        for bad, what in ((positives == 0, "positive"), (positives + excluded == index.size, "negative")):
            if bad.any():
                name = problem.concepts[int(np.flatnonzero(bad)[0])]
                raise DataError(
                    f"lenses: {int(bad.sum())} concepts have no {what} text in '{part}', '{name}' the first; "
                    "give them more texts or leave them out"
                )
