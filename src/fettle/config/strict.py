"""What every section of a configuration has in common."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    """A section that refuses keys it does not know, values of another type, and changes.

    Strict types: "16" is no number and 1 is no switch, so that nothing in the
    file means something else than it says. Floats are finite.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )


DISAGREEMENT = "disagreement"


def disagreement(problems: Mapping[str, str]) -> PydanticCustomError:
    """Keys of one section that contradict each other: the key to change -> what to do about it."""
    text = "; ".join(problems.values())
    return PydanticCustomError(DISAGREEMENT, "{text}", {"text": text, "problems": dict(problems)})


def regular_expression(value: str) -> str:
    """Refuses what is none."""
    try:
        re.compile(value)
    except re.error as error:
        message = f"'{value}' is not a regular expression: {error}"
        raise PydanticCustomError("bad_regex", "{text}", {"text": message}) from error
    return value
