"""What of a text is compared: normalisers for text-level exact match."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from decimal import Decimal, localcontext

from fettle.errors import ConfigError
from fettle.metrics.number_text import MAX_CHARACTERS, last_number

Normaliser = Callable[[str], str | None]
"""From a text to what is compared; None where nothing could be extracted."""

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = frozenset({"a", "an", "the"})


def strip(text: str) -> str:
    """The text without white space around it."""
    return text.strip()


def case(text: str) -> str:
    """Stripped, and without regard to case."""
    return text.strip().casefold()


def squad(text: str) -> str:
    """Lower case, without punctuation and the articles a, an and the, words one space apart.

    As in the evaluation of SQuAD 1.1 (Rajpurkar et al. 2016); punctuation is ASCII's.
    """
    bare = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(word for word in bare.split() if word not in _ARTICLES)


def number(text: str) -> str | None:
    """The last number in the text, in one spelling: `1,250.00` is `1250`, `2/6` is `1/3`."""
    found = last_number(text)
    if found is None:
        return None
    top, bottom = found.value.as_integer_ratio()
    rest = bottom
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    if rest > 1:
        return f"{top}/{bottom}"
    with localcontext(prec=4 * MAX_CHARACTERS):
        return format((Decimal(top) / Decimal(bottom)).normalize() + 0, "f")


def regex(pattern: str) -> Normaliser:
    """The first group of the last match of `pattern`, or the whole match; stripped."""
    try:
        compiled = re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise ConfigError(f"normaliser regex:{pattern}: not a regular expression: {error}") from error

    def extract(text: str) -> str | None:
        matches = list(compiled.finditer(text))
        if not matches:
            return None
        found = matches[-1].group(1 if compiled.groups else 0)
        return None if found is None else found.strip()

    return extract


def normaliser(name: str) -> Normaliser:
    """By name: `strip`, `case`, `squad`, `number`, or `regex:PATTERN`."""
    kind, _, pattern = name.partition(":")
    simple: dict[str, Normaliser] = {"strip": strip, "case": case, "squad": squad, "number": number}
    if kind == "regex" and pattern:
        return regex(pattern)
    if name in simple:
        return simple[name]
    raise ConfigError(f"normaliser {name!r} is unknown. Use strip, case, squad, number or regex:PATTERN")
