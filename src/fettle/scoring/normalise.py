"""What of a text is compared: normalisers for text-level exact match."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from fettle.errors import ConfigError

Normaliser = Callable[[str], str | None]
"""From a text to what is compared; None where nothing could be extracted."""

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[-+]?\.\d+")


def strip(text: str) -> str:
    """The text without white space around it."""
    return text.strip()


def case(text: str) -> str:
    """Stripped, and without regard to case."""
    return text.strip().casefold()


def number(text: str) -> str | None:
    """The last number in the text, in one spelling: `1,250.00` is `1250`."""
    found = _NUMBER.findall(text)
    if not found:
        return None
    try:
        value = Decimal(found[-1].replace(",", ""))
    except InvalidOperation:
        return None
    return format(value.normalize() + 0, "f")


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
    """By name: `strip`, `case`, `number`, or `regex:PATTERN`."""
    kind, _, pattern = name.partition(":")
    simple: dict[str, Normaliser] = {"strip": strip, "case": case, "number": number}
    if kind == "regex" and pattern:
        return regex(pattern)
    if name in simple:
        return simple[name]
    raise ConfigError(f"normaliser {name!r} is unknown. Use strip, case, number or regex:PATTERN")
