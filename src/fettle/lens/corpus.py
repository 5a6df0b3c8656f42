"""The texts of all concepts, each once, with what each of them shows and what it may not be parted from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.data.near_duplicates import near_duplicates
from fettle.errors import DataError
from fettle.lens.concept_pack import ConceptPack
from fettle.lens.text import Text


@dataclass(slots=True)
class Row:
    """One text of the corpus."""

    text: str
    positive: set[str] = field(default_factory=set[str])
    """Concepts that it shows."""
    negative: set[str] = field(default_factory=set[str])
    """Concepts of which it was said that it does not."""
    origins: list[Text] = field(default_factory=list[Text])
    """As they were given, duplicates included."""


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """n texts and c concepts."""

    rows: list[Row]
    concepts: list[str]
    groups: NDArray[np.int64]
    """Of each row, [n]; rows of one group stay on one side of every split."""
    duplicates: int
    """Given texts that stood there already, but for case, spaces and punctuation."""
    near_duplicates: int
    """Given texts left out because one that is nearly the same shows the same concepts."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def texts(self) -> list[str]:
        return [row.text for row in self.rows]

    def membership(self, label: bool = True) -> Any:
        """Which row shows which concept (or is said not to), a boolean CSR array, [n, c]."""
        from scipy.sparse import csr_array

        column = {name: j for j, name in enumerate(self.concepts)}
        columns = [sorted(column[c] for c in (row.positive if label else row.negative)) for row in self.rows]
        ends = np.cumsum([0, *map(len, columns)])
        flat = np.array([j for of_row in columns for j in of_row], dtype=np.int64)
        return csr_array((np.ones(len(flat), dtype=np.bool_), flat, ends), shape=(len(self), len(column)))


def build_corpus(pack: ConceptPack, texts: Iterable[Text]) -> Corpus:
    """Merge what is said twice, leave out near-duplicates, and join what must stay together.

    Texts of one group (template × lexeme × generator) stay together, and so do near-duplicates that show
    different concepts. Raises DataError for a text that is said to show a concept and not to show it, and for
    concepts that no text shows.
    """
    given = list(texts)
    rows = _merged(given)
    kept, pairs = _without_near_duplicates(rows)
    shown = {name for row in kept for name in row.positive}
    if missing := [name for name in pack.names if name not in shown]:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise DataError(
            f"{pack.source}: no text shows {', '.join(repr(m) for m in missing[:3])}{more}. "
            "Give each concept examples or a definition, or remove it"
        )
    groups = _groups(kept, pairs)
    return Corpus(kept, pack.names, groups, len(given) - len(rows), len(rows) - len(kept))


def _merged(texts: Sequence[Text]) -> list[Row]:
    rows: dict[str, Row] = {}
    for text in texts:
        row = rows.setdefault(bare(text.text), Row(text.text))
        (row.positive if text.label else row.negative).add(text.concept)
        row.origins.append(text)
        if both := row.positive & row.negative:
            raise DataError(f"'{text.text[:60]}' is labelled 1 and 0 for '{both.pop()}'. Remove one of them")
    return list(rows.values())


def _without_near_duplicates(rows: Sequence[Row]) -> tuple[list[Row], list[tuple[int, int]]]:
    """Rows kept, and pairs of them that are nearly the same and show different concepts."""
    twins = near_duplicates(*[[bare(row.text) for row in rows]] * 2)
    place: dict[int, int] = {}
    pairs: list[tuple[int, int]] = []
    for i, row in enumerate(rows):
        before = [j for j in twins[i] if j < i and j in place]
        if any((rows[j].positive, rows[j].negative) == (row.positive, row.negative) for j in before):
            continue
        place[i] = len(place)
        pairs += [(place[j], place[i]) for j in before]
    return [rows[i] for i in place], pairs


def _groups(rows: Sequence[Row], pairs: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """Connected parts of the graph whose edges lead from rows to the groups of their texts and to twins."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    number: dict[tuple[str, ...], int] = {}
    edges = list(pairs)
    for i, row in enumerate(rows):
        edges += [(i, len(rows) + number.setdefault(text.group, len(number))) for text in row.origins]
    start_E, end_E = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    size = len(rows) + len(number)
    graph = coo_array((np.ones(len(edges), dtype=np.int8), (start_E, end_E)), shape=(size, size))
    _, labels = connected_components(graph, directed=False)
    return labels[: len(rows)].astype(np.int64)


def bare(text: str) -> str:
    """Words alone, in lower case; a text without any stands as it is."""
    return re.sub(r"[\W_]+", " ", text).strip().casefold() or text
