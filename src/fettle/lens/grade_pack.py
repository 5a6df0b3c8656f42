"""A trained pack judged once more: on its sealed test, or on texts of another file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.errors import DataError
from fettle.evaluation.subject import Subject
from fettle.lens.concept_pack import ConceptPack
from fettle.lens.corpus import Corpus
from fettle.lens.extract import Extractor, OnTokens
from fettle.lens.grades import grade_lenses
from fettle.lens.judge import judge_rows
from fettle.lens.lens_pack import LensPack
from fettle.lens.negatives import JudgedNegatives, excluded
from fettle.lens.pack_texts import trained_corpus
from fettle.lens.problem import LensRows
from fettle.lens.spec import check_same, read_spec
from fettle.lens.splits import SETS, rows_hash, split
from fettle.metrics import rank_v1


@dataclass(frozen=True, slots=True)
class Regraded:
    """What a pack comes to on some texts."""

    texts: int
    sealed: bool
    """Whether they are the sealed test of its training; else all texts of the file."""
    lenses: list[dict[str, Any]]
    """Of each lens: concept, grade, discriminability, test results, and the earlier system's rank_v1."""


def regrade(
    pack: LensPack,
    subject: Subject,
    concepts: Path,
    banks: Path,
    *,
    device: str = "auto",
    batch_tokens: int | None = None,
    on_tokens: OnTokens | None = None,
) -> Regraded:
    """Judge a pack on its sealed test where `concepts` is the file it was trained on, else on all texts.

    Raises ModelError for another model than the pack's, DataError where no text shows any of its concepts.
    """
    extractor = Extractor(
        subject, read_spec(pack.identity["spec"], "the pack"), banks, device=device, batch_tokens=batch_tokens
    )
    check_same(extractor.bank.identity, pack.identity, "the pack")
    settings = pack.about["settings"]
    given, corpus = trained_corpus(concepts, settings)
    test = split(corpus, settings["shares"], settings["seed"]).rows("test")
    sealed = rows_hash(corpus, test) == pack.about["test"]["hash"]
    chosen = test if sealed else np.arange(len(corpus))
    bank = extractor.extract([corpus.rows[int(i)].text for i in chosen], on_tokens)
    chosen = np.array([i for i in chosen if corpus.rows[int(i)].text in bank], dtype=np.int64)
    vectors = bank.read([corpus.rows[int(i)].text for i in chosen], pack.layer)
    rows = _rows(pack, given, corpus, chosen, vectors)
    if not any(len(shown) for shown in rows.positive):
        raise DataError(f"{concepts}: no text shows a concept of the pack, such as '{pack.concepts[0]}'")
    return Regraded(len(rows), sealed, _judged(pack, rows))


def _rows(
    pack: LensPack,
    given: ConceptPack,
    corpus: Corpus,
    chosen: NDArray[np.int64],
    vectors: NDArray[np.float32],
) -> LensRows:
    """The texts with labels for the lenses of the pack, in its order; a concept they lack has none."""
    sets = np.full(len(corpus), -1, dtype=np.int8)
    sets[chosen] = SETS.index("test")
    barred = excluded(given, corpus)
    labels = (corpus.membership(), barred, JudgedNegatives(given, corpus, barred).of(sets))
    shown, barred, against = (_columns(matrix, corpus, pack)[chosen] for matrix in labels)
    return LensRows.of(vectors, shown, barred, corpus.groups[chosen], np.arange(len(chosen)), against)


def _columns(matrix: Any, corpus: Corpus, pack: LensPack) -> Any:
    """Columns of the pack's concepts, empty ones for those that the corpus lacks."""
    from scipy.sparse import csr_array

    column = {name: j for j, name in enumerate(corpus.concepts)}
    known = [(column[name], c) for c, name in enumerate(pack.concepts) if name in column]
    at, place = np.array(known, dtype=np.int64).reshape(-1, 2).T
    moved = csr_array((np.ones(len(at)), (at, place)), shape=(len(column), len(pack.concepts)))
    return csr_array(matrix.astype(np.float64) @ moved).astype(np.bool_)


def _judged(pack: LensPack, rows: LensRows) -> list[dict[str, Any]]:
    results = judge_rows(
        pack.scoring, rows, pack.thresholds.tolist(), prevalence=pack.about["settings"]["prevalence"]
    )
    grades = grade_lenses(pack.scoring, pack.negative_mean, pack.negative_deviation, rows)
    evidence_NC = pack.evidence(rows.features)
    found: list[dict[str, Any]] = []
    for c, name in enumerate(pack.concepts):
        grade, result = grades[c], results[c]
        earlier = [rank_v1(evidence_NC[n], c)[0] for n in rows.positive[c]]
        found.append(
            {
                "concept": name,
                "grade": grade.grade,
                "discriminability": grade.discriminability and asdict(grade.discriminability),
                "p_direction": grade.p_direction,
                "test": result and asdict(result),
                "rank_v1": float(np.mean(earlier)) if earlier else None,
            }
        )
    return found
