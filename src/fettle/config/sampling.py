"""How answers are generated: greedy or sampled, how many, how long, and where they end."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from fettle.config.strict import Strict, disagreement


def said_strings(values: list[str]) -> list[str]:
    """Refuses the empty string, which ends every answer before it begins."""
    if "" in values:
        raise PydanticCustomError("empty_stop", "must not hold an empty string")
    return values


class SamplingConfig(Strict):
    n: int = Field(default=1, ge=1)
    """Answers per prompt."""
    temperature: float = Field(default=0.0, ge=0)
    """Divides the logits before a token is drawn. 0: greedy, the likeliest token."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Tokens are drawn from the fewest that hold this probability together. 1: from all."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Tokens of the longest answer."""
    stop: Annotated[list[str], AfterValidator(said_strings)] = Field(default_factory=list)
    """An answer ends where one of these texts does, however it is cut into tokens."""
    include_stop: bool = False
    """Whether the text that ended an answer is part of it."""
    seed: int = Field(default=42, ge=0)
    """Of all draws; each answer has a stream of its own, so that its batch has no say."""
    logprobs: bool = False
    """Whether answers are scored once more by teacher forcing, at temperature 1."""

    @model_validator(mode="after")
    def _keys_agree(self) -> Self:
        if self.temperature == 0 and self.n > 1:
            text = "temperature must be above 0 where n is above 1: greedy answers are all the same"
            raise disagreement({"temperature": text})
        return self
