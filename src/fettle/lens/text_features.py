"""What a classifier could go by without the model: the words of a text, or its outward form alone."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from fettle.lens.corpus import Row


def bag_of_words(rows: Sequence[Row], fitted_on: Iterable[int]) -> Any:
    """Word counts as 1 + log(tf) times idf, each text of length 1, a CSR array [n, words].

    Words and their idf, log((1 + N) / (1 + df)) + 1, come from the rows fitted on alone: a word that stands
    only in the test is no feature. As scikit-learn's TfidfVectorizer with sublinear_tf.
    """
    words = [re.findall(r"\w\w+", row.text.lower()) for row in rows]
    fitted = list(fitted_on)
    column: dict[str, int] = {}
    documents: list[int] = []
    for i in fitted:
        for word in set(words[i]):
            if word not in column:
                column[word] = len(documents)
                documents.append(0)
            documents[column[word]] += 1
    idf = np.log((1 + len(fitted)) / (1 + np.array(documents, dtype=np.float64))) + 1
    return _sparse([_weighted(text, column, idf) for text in words], len(column))


def template_alone(rows: Sequence[Row]) -> Any:
    """What can be told without reading what a text says, a CSR array [n, features].

    Which templates and generators it came from, what it ends with, and the logarithm of its length in words.
    """
    names: dict[tuple[str, str], int] = {}
    found: list[dict[int, float]] = []
    for row in rows:
        marks = {("end", row.text.rstrip()[-1:])}
        marks |= {("template", text.template or "") for text in row.origins}
        marks |= {("generator", text.generator or "") for text in row.origins}
        values = {names.setdefault(mark, len(names)): 1.0 for mark in sorted(marks)}
        length = names.setdefault(("length", ""), len(names))
        found.append({**values, length: math.log(1 + len(row.text.split()))})
    return _sparse(found, len(names))


BASELINES: dict[str, Callable[[Sequence[Row], Iterable[int]], Any]] = {
    "bag_of_words": bag_of_words,
    "template": lambda rows, _: template_alone(rows),
}


def _weighted(text: Sequence[str], column: dict[str, int], idf: Any) -> dict[int, float]:
    counts: dict[int, int] = {}
    for word in text:
        if word in column:
            counts[column[word]] = counts.get(column[word], 0) + 1
    values = {at: (1 + math.log(count)) * float(idf[at]) for at, count in counts.items()}
    length = math.sqrt(sum(value**2 for value in values.values())) or 1.0
    return {at: value / length for at, value in values.items()}


def _sparse(rows: Sequence[dict[int, float]], width: int) -> Any:
    from scipy.sparse import csr_array

    ends = np.cumsum([0, *map(len, rows)])
    columns = np.array([at for row in rows for at in row], dtype=np.int64)
    values = np.array([value for row in rows for value in row.values()], dtype=np.float64)
    return csr_array((values, columns, ends), shape=(len(rows), width))
