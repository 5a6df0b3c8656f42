"""Baselines that see no model: bag of words beside scikit-learn's, and outward form."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from fettle.lens.corpus import Row
from fettle.lens.text import Text
from fettle.lens.text_features import bag_of_words, template_alone

SAID = ["The cat sat on the mat, the cat.", "A dog sat.", "Words unseen stand here", "dog dog dog cat!", "?"]


def rows(*texts: Text) -> list[Row]:
    return [Row(text.text, {text.concept}, set(), [text]) for text in texts]


def test_bag_of_words_is_that_of_scikit_learn() -> None:
    given = rows(*(Text(said, "A", True, "example") for said in SAID))
    fitted = [0, 1, 3]
    found = bag_of_words(given, fitted).toarray()
    reference = TfidfVectorizer(sublinear_tf=True).fit([SAID[i] for i in fitted])
    expected = reference.transform(SAID).toarray()
    assert sorted(found.sum(axis=0)) == pytest.approx(sorted(expected.sum(axis=0)))
    assert found @ found.T == pytest.approx(expected @ expected.T)
    assert not found[2].any()


def test_the_template_alone_knows_form_and_nothing_else() -> None:
    def made(said: str, template: str) -> Text:
        return Text(said, "A", True, "definition", template=template)

    first, second, other, longer = template_alone(
        rows(
            made("What is joy?", "What is {}?"),
            made("What is rain?", "What is {}?"),
            made("Tell me rain?", "Tell me {}?"),
            made("What is rain or snow?", "What is {}?"),
        )
    ).toarray()
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, longer)
