"""From texts and a bank to the problem that lenses solve, with the training texts they have grown to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fettle.errors import DataError
from fettle.lens.bank import Bank
from fettle.lens.concept_pack import ConceptPack
from fettle.lens.corpus import Corpus, Row
from fettle.lens.lens_pack import LensPack
from fettle.lens.negatives import JudgedNegatives, excluded
from fettle.lens.pack_texts import trained_corpus
from fettle.lens.problem import Ints, LensProblem
from fettle.lens.splits import SETS, SetName, Splits, rows_hash, split

UNUSED = -1
TRAIN, TEST = SETS.index("train"), SETS.index("test")


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Some texts of a corpus."""

    sets: NDArray[np.int8]
    """Set of every row of the corpus, UNUSED for those that are not selected, [n]."""
    rows: list[Row]
    """Those selected, in their order."""

    @property
    def texts(self) -> list[str]:
        return [row.text for row in self.rows]

    def places(self, name: SetName) -> Ints:
        """Of a set, among the rows selected."""
        return np.flatnonzero(self.sets[self.sets != UNUSED] == SETS.index(name))


class LensDataset:
    """The texts of a pack in their sets. Concepts of which some set has no text are not trained."""

    def __init__(self, pack: ConceptPack, corpus: Corpus, splits: Splits, seed: int = 0) -> None:
        """Raises DataError where no concept can be trained."""
        self.pack, self.corpus, self.splits = pack, corpus, splits
        self._positive = corpus.membership()
        self._excluded = excluded(pack, corpus)
        self._judged = JudgedNegatives(pack, corpus, self._excluded)
        self.untrained = {
            name: f"too few samples: its texts are of too few groups for all sets, none is in {empty}"
            for name, empty in splits.lacking.items()
        }
        """Concepts left out, with the reason."""
        self.concepts = [name for name in corpus.concepts if name not in self.untrained]
        if not self.concepts:
            name, reason = next(iter(self.untrained.items()))
            raise DataError(
                f"{pack.source}: no concept can be trained. '{name}': {reason}. "
                "Give more texts, of more templates, lexemes or generators"
            )
        column = {name: j for j, name in enumerate(corpus.concepts)}
        self._columns = np.array([column[name] for name in self.concepts])
        rng = np.random.default_rng(seed)
        train = self._positive[:, self._columns].multiply((splits.sets == TRAIN)[:, None]).tocsc()
        train.eliminate_zeros()
        self._order = [rng.permutation(rows) for rows in np.split(train.indices, train.indptr[1:-1])]
        """Training texts of each concept, in the order in which it is given them."""

    @classmethod
    def of_pack(cls, lenses: LensPack, concepts: Path) -> LensDataset:
        """The texts that lenses were trained and tested on, in the same sets, from the same file.

        Raises DataError where the file's texts are others.
        """
        settings = lenses.about["settings"]
        pack, corpus = trained_corpus(concepts, settings)
        splits = split(corpus, settings["shares"], settings["seed"])
        dataset = cls(pack, corpus, splits, settings["seed"])
        if rows_hash(corpus, splits.rows("test")) != lenses.about["test"]["hash"]:
            raise DataError(f"{concepts}: its texts are not those that the lenses were trained on")
        return dataset

    @property
    def available(self) -> Ints:
        """Training texts of each concept, [C]."""
        return np.array([len(rows) for rows in self._order], dtype=np.int64)

    def select(self, sizes_C: Ints, *, test: bool = False) -> Selection:
        """So many training texts of each concept; of the other sets all, of the test only where told."""
        sets_N = self.splits.sets.copy()
        shown_by_trained = np.diff(self._positive[:, self._columns].indptr) > 0
        sets_N[shown_by_trained & (sets_N == TRAIN)] = UNUSED
        for rows, size in zip(self._order, sizes_C, strict=True):
            sets_N[rows[:size]] = TRAIN
        if not test:
            sets_N[sets_N == TEST] = UNUSED
        return self._selection(sets_N)

    def within(self, selection: Selection, bank: Bank) -> Selection:
        """The same without texts that the bank can give no vector of."""
        sets_N = selection.sets.copy()
        for i in np.flatnonzero(sets_N != UNUSED):
            if self.corpus.rows[i].text not in bank:
                sets_N[i] = UNUSED
        return self._selection(sets_N)

    def problem(self, selection: Selection, bank: Bank, layer: int) -> LensProblem:
        """The problem of one layer over some texts."""
        rows = np.flatnonzero(selection.sets != UNUSED)
        judged = self._judged.of(selection.sets)
        return LensProblem(
            concepts=self.concepts,
            features=bank.read(selection.texts, layer),
            positive=self._positive[rows][:, self._columns],
            excluded=self._excluded[rows][:, self._columns],
            groups=self.corpus.groups[rows],
            sets={name: selection.places(name) for name in SETS},
            judged=judged[rows][:, self._columns],
        )

    def _selection(self, sets_N: NDArray[np.int8]) -> Selection:
        return Selection(sets_N, [self.corpus.rows[i] for i in np.flatnonzero(sets_N != UNUSED)])
