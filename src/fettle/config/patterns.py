"""The `patterns` section: which kinds of prompts there are, and the bins of answer lengths."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from fettle.config.strict import Strict, regular_expression

LENGTH_BINS = (100, 300, 500, 1000, 2000)
# The most specific kind first: "write a function" is coding, though "write" alone is creative.
RULES = {
    "coding": ("code", "function", "implement", "debug", "script", "program"),
    "math": ("calculate", "solve", "compute", "equation", "proof"),
    "reasoning": ("explain", "why", "how does", "analyze", "compare", "reason"),
    "creative": ("write", "create", "compose", "generate", "imagine", "design"),
    "factual": ("what is", "who is", "when", "where", "define", "list"),
}


def usable_rules(rules: dict[str, list[str]]) -> dict[str, list[str]]:
    """Refuses kinds without a name or a rule, and rules that are none."""
    for name, expressions in rules.items():
        if not name.strip() or not expressions:
            raise PydanticCustomError("empty_rule", "needs a name and at least one word for every kind")
        for expression in expressions:
            if re.search(regular_expression(expression), ""):
                message = f"'{expression}' matches every prompt"
                raise PydanticCustomError("matches_all", "{text}", {"text": message})
    return rules


def rising(edges: list[int]) -> list[int]:
    """Refuses edges that bound no bins."""
    if not edges or any(low >= high for low, high in pairwise([0, *edges])):
        raise PydanticCustomError("not_rising", "must be lengths that rise, such as [100, 300, 500]")
    return edges


class PatternsConfig(Strict):
    field: str = "pattern"
    """Field of a data line that names the kind of its prompt. Where a line has it, no rule is asked."""
    rules: Annotated[dict[str, list[str]], AfterValidator(usable_rules)] = Field(
        default_factory=lambda: {name: list(words) for name, words in RULES.items()}
    )
    """Kind of prompt -> words and regular expressions, searched in the last user turn without regard to
    case; the first kind that matches counts, and what none matches is `other`. Plain words match as whole
    words. Rules of your own replace all of these."""
    length_bins: Annotated[list[int], AfterValidator(rising)] = Field(
        default_factory=lambda: list(LENGTH_BINS)
    )
    """Where one bin of answer lengths ends and the next begins, in tokens."""
