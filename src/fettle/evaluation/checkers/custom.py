"""A checker of one's own: one Python function."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from fettle.config.checkers import CustomConfig
from fettle.errors import ConfigError
from fettle.evaluation.checkers.check import Check, Checker, Reference

GROUP = "fettle.checkers"


def custom(config: CustomConfig) -> Checker:
    """Calls `function(answer, reference)`, which returns a bool, None, a score in [0, 1] or a Check.

    A score is right from 0.5 on. Raises ConfigError where there is no such function.
    """
    function = load_function(config.function)

    def check(answer: str, against: Reference) -> Check:
        return as_check(function(answer, against))

    return check


def as_check(found: Any) -> Check:
    """What a function returned, as a Check. Raises TypeError for what says nothing."""
    if isinstance(found, Check):
        return found
    if found is None:
        return Check(None, "the function returned None")
    if type(found).__name__ in ("bool", "bool_"):
        return Check(bool(found))
    if isinstance(found, (int, float)):
        if not math.isfinite(found) or not 0 <= found <= 1:
            raise ValueError(f"the function returned {found}, which is not in [0, 1]")
        return Check(found >= 0.5, score=float(found))
    raise TypeError(f"the function returned {type(found).__name__}, not a bool, a score, None or a Check")


def load_function(name: str) -> Callable[[str, Reference], Any]:
    """The function that a name means. Raises ConfigError, which says what is not there."""
    place, _, attribute = name.rpartition(":")
    found = _from_place(name, place, attribute) if place else _from_entry_point(name)
    if not callable(found):
        raise ConfigError(f"checker custom: function '{name}' is no function")
    return found


def _from_entry_point(name: str) -> Any:
    known = {point.name: point for point in entry_points(group=GROUP)}
    if name not in known:
        there = f"There are: {', '.join(sorted(known))}" if known else "None is installed"
        raise ConfigError(
            f"checker custom: no entry point '{name}' in the group {GROUP}. {there}. "
            "For a function of yours write module:function"
        )
    return known[name].load()


def _from_place(name: str, place: str, attribute: str) -> Any:
    try:
        module: Any = _from_file(Path(place)) if place.endswith(".py") else import_module(place)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
        raise ConfigError(f"checker custom: '{name}' cannot be loaded: {problem}") from error
    found = getattr(module, attribute, None)
    if found is None:
        raise ConfigError(f"checker custom: {place} has no function '{attribute}'")
    return found


def _from_file(path: Path) -> Any:
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(str(path))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
