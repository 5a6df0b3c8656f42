"""Answers that are compared as text, as numbers, or by what an expression finds in them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fettle.config.checkers import ExactConfig, NormalisedConfig, NumberConfig, RegexConfig
from fettle.errors import ConfigError, MissingExtraError
from fettle.evaluation.checkers.check import Check, Checker, Reference
from fettle.metrics.normalise import normaliser
from fettle.metrics.number_text import last_number

SHOWN = 80


def exact(config: ExactConfig) -> Checker:
    """Right where both are the same text, but for white space around them."""

    def check(answer: str, against: Reference) -> Check:
        return compared(answer.strip(), against.right(config.reference_field).strip())

    return check


def normalised(config: NormalisedConfig) -> Checker:
    """Right where both are the same after the normaliser."""
    apply = normaliser(config.normaliser)

    def check(answer: str, against: Reference) -> Check:
        right = apply(against.right(config.reference_field))
        if right is None:
            return Check(None, f"normaliser {config.normaliser} finds nothing in the reference")
        return compared(apply(answer), right)

    return check


def number(config: NumberConfig) -> Checker:
    """Right where the last number is that of the reference; after the last `####` where there is one."""

    def check(answer: str, against: Reference) -> Check:
        right = last_number(_final(against.right(config.reference_field)))
        if right is None:
            return Check(None, "the reference holds no number")
        said = last_number(_final(answer))
        if said is None:
            return Check(False, "no number found", formatted=False)
        same = said.equals(right, config.relative_tolerance)
        return Check(same, None if same else "another number", formatted=True)

    return check


def regex(config: RegexConfig) -> Checker:
    """Right where what the pattern finds last equals the reference, both after the normaliser."""
    try:
        library: Any = import_module("regex")
    except ImportError as error:
        raise MissingExtraError(
            "checker regex needs regex. Install it with: pip install 'fettle[eval]'"
        ) from error
    try:
        pattern = library.compile(config.pattern, library.DOTALL | library.VERSION0)
    except library.error as error:
        raise ConfigError(f"checker regex: pattern: is not a regular expression: {error}") from error
    apply = normaliser(config.normaliser)

    def check(answer: str, against: Reference) -> Check:
        try:
            found: Any = None
            for match in pattern.finditer(answer, timeout=config.timeout_seconds):
                found = match[1 if pattern.groups else 0]
        except TimeoutError:
            return Check(None, f"the pattern took longer than {config.timeout_seconds:g} s")
        if found is None:
            return Check(False, "the pattern finds nothing", formatted=False)
        right = apply(against.right(config.reference_field))
        if right is None:
            return Check(None, f"normaliser {config.normaliser} finds nothing in the reference")
        result = compared(apply(found), right)
        return Check(result.correct, result.reason, formatted=True)

    return check


def compared(said: str | None, right: str) -> Check:
    """Right where both are the same."""
    if said == right:
        return Check(True)
    return Check(False, "nothing to compare" if said is None else f"'{shortened(said)}' is another text")


def shortened(text: str) -> str:
    """Enough of a text to know it by."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _final(text: str) -> str:
    """What follows the last `####`, as GSM8K writes its answers; all of it where there is none."""
    return text.rsplit("####", 1)[-1]
