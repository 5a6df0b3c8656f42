"""Numbers as people write them."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from fractions import Fraction

# Longer ones, and those beyond 10^±400, are no answers but a way to stall what reads them.
MAX_CHARACTERS = 400
MAX_EXPONENT = 400
# The last number stands at the end of an answer; a search through ten million characters takes 20 s.
SEARCHED_CHARACTERS = 100_000

# No-break and narrow spaces: an ordinary one stands between two numbers as well.
_SPACE = r"[\u00a0\u2009\u202f]"
_DIGITS = rf"(?:\d{{1,3}}(?:(?:,|\{{,\}}|\\,|{_SPACE})\d{{2,3}})*(?:,|\{{,\}}|\\,|{_SPACE})\d{{3}}(?!\d)|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d+)?|\.\d+)"
_POWER = r"(?:[eE][-+−]?\d+|\s?(?:×|\\times|\*|x)\s?10\s?(?:\^|\*\*)\s?\{?[-+−]?\d+\}?)"
_FRACTION = r"\\[dt]?frac\s?\{\s?(?P<top>[-−]?\d+)\s?\}\s?\{\s?(?P<bottom>\d+)\s?\}"
_SLASH = r"(?:(?P<whole>\d+) )?(?P<over>\d+)\s?/\s?(?P<under>\d+)(?![\d./])"
_NUMBER = re.compile(
    # A hyphen between words or figures, or before a space, is no sign: GPT-4, 5-10, a list's "- 5".
    rf"(?<![\w.])(?P<sign>(?<![\w)])[-+−]\$?)?(?:{_FRACTION}|{_SLASH}|(?P<decimal>{_DECIMAL})(?P<power>{_POWER})?)"
    rf"(?P<percent>\s?\\?%)?"
    rf"|(?<=[A-Za-z])(?P<attached>\d+(?:\.\d+)?)"
)


@dataclass(frozen=True, slots=True)
class Number:
    """What one of them says."""

    value: Fraction
    percent: bool = False
    """Whether a percent sign followed; the value is what stood before it."""

    def equals(self, other: Number, relative_tolerance: float = 0.0) -> bool:
        """Whether both say the same, up to a share of the other.

        Where only one has a percent sign it may be read away or as hundredths: 50 % is 50 and is 0.5.
        """
        readings = [self.value]
        if self.percent and not other.percent:
            readings.append(self.value / 100)
        if other.percent and not self.percent:
            readings.append(self.value * 100)
        allowed = abs(other.value) * Fraction(relative_tolerance)
        return any(abs(value - other.value) <= allowed for value in readings)


def last_number(text: str) -> Number | None:
    """The last number in (the end of) a text; None where there is none, or one too long to be meant.

    Understands thousands (1,250; 1,00,000; narrow spaces; LaTeX's 1{,}250), fractions (3/4, 1 1/2,
    \\frac{3}{4}), scientific notation (1.5e-3, 2 × 10^8) and percent. NaN and infinity are no numbers.
    """
    found = deque(_NUMBER.finditer(text[-SEARCHED_CHARACTERS:]), maxlen=1)
    return _value(found[0]) if found else None


def _value(match: re.Match[str]) -> Number | None:
    if len(match[0]) > MAX_CHARACTERS:
        return None
    parts = match.groupdict()
    sign = -1 if (parts["sign"] or "").startswith(("-", "−")) else 1
    if parts["top"] is not None:
        value = _ratio(parts["top"].replace("−", "-"), parts["bottom"])
    elif parts["over"] is not None:
        value = _ratio(parts["over"], parts["under"])
        value = value if value is None else value + int(parts["whole"] or 0)
    else:
        value = _decimal(parts["decimal"] or parts["attached"], parts["power"] or "")
    return None if value is None else Number(sign * value, parts["percent"] is not None)


def _ratio(top: str, bottom: str) -> Fraction | None:
    return Fraction(int(top), int(bottom)) if int(bottom) else None


def _decimal(digits: str, power: str) -> Fraction | None:
    exponent = re.search(r"[-+−]?\d+(?=\}?$)", power)
    shift = int(exponent[0].replace("−", "-")) if exponent else 0
    if abs(shift) > MAX_EXPONENT:
        return None
    return Fraction(re.sub(r"[^\d.]", "", digits)) * Fraction(10) ** shift
