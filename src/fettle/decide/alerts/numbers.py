"""Numbers of a record, and on which side of a threshold they are."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any


def number(record: Mapping[str, Any], key: str) -> float | None:
    """A finite number; None where there is none, or no number."""
    value: Any = record.get(key)
    # By class and not by isinstance: this runs a dozen times for every step.
    if value.__class__ is float:  # pyright: ignore[reportUnknownMemberType]
        return value if isfinite(value) else None
    if value is None:
        return None
    if value.__class__ is not int:  # pyright: ignore[reportUnknownMemberType]
        value = _plain(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
    # Beyond 2**1023 an integer is no float any more.
    return float(value) if -(2**1023) < value < 2**1023 else None


def nonfinite(record: Mapping[str, Any], key: str) -> str | None:
    """ "nan", "inf" or "-inf" where the number is one of these: flagged in a log, itself in memory."""
    flag: Any = record.get(f"{key}_nonfinite")
    if flag:
        return str(flag)
    value = _plain(record.get(key))
    return str(value) if isinstance(value, float) and not isfinite(value) else None


def _plain(value: Any) -> Any:
    """Scalars of numpy and torch as the log will have them."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def above(value: float, threshold: float, hysteresis: float) -> bool | None:
    """True above the threshold, False once clearly back under it, None between the two."""
    if value > threshold:
        return True
    return False if value <= threshold - hysteresis * abs(threshold) else None


def below(value: float, threshold: float, hysteresis: float) -> bool | None:
    """True below the threshold, False once clearly back over it, None between the two."""
    if value < threshold:
        return True
    return False if value >= threshold + hysteresis * abs(threshold) else None
