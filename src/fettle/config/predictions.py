"""The `predictions` section: fixed prompts whose answers are written down over the run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from fettle.config.strict import Strict, regular_expression


def occasion(value: Any) -> Any:
    """eval, epoch, or a number of steps."""
    if value in ("eval", "epoch") or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise PydanticCustomError("occasion", "must be eval, epoch or a number of steps")


class PredictionsConfig(Strict):
    samples: int = Field(default=5, ge=0, le=100)
    """Held-out prompts, chosen with the seed, that are answered again and again. 0: none."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Tokens of the longest answer."""
    every: Annotated[Literal["eval", "epoch"] | int, BeforeValidator(occasion)] = "eval"
    """eval: at every evaluation. epoch: at the end of each epoch. A number: after so many steps. And always
    after the last step."""
    json_schema: dict[str, Any] | None = None
    """Answers must be JSON that fits this schema; {} asks for any JSON. null: not checked."""
    regex: Annotated[str, AfterValidator(regular_expression)] | None = None
    """This must be found in every answer. null: not checked."""
