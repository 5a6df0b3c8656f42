"""The `data` section: which chats, and how they become token sequences."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from fettle.config.strict import Strict


def absolute_path(value: Any, info: ValidationInfo) -> Any:
    """A path as an absolute one, relative to the folder of the configuration file where there is one."""
    if isinstance(value, str):
        if not value.strip():
            raise PydanticCustomError("empty_path", "must name a file")
        value = Path(value)
    if not isinstance(value, Path):
        return value
    context: dict[str, Any] = info.context or {}
    folder = Path(context.get("folder", "."))
    # normpath, not resolve: a symlinked data folder keeps the name its owner gave it.
    return Path(os.path.normpath((folder / value.expanduser()).absolute()))


DataPath = Annotated[Path, BeforeValidator(absolute_path)]


class DataConfig(Strict):
    train: DataPath
    """Training chats, JSONL. Relative to the folder of the configuration file."""
    fixed_eval: DataPath | None = None
    """Held-out chats, JSONL, the same at every evaluation. null: nothing is evaluated."""
    max_samples: int = Field(default=2000, ge=1)
    """At most this many of the held-out chats, chosen at random with the seed; the choice is recorded."""
    train_on: Literal["all", "last"] = "all"
    """Whether loss falls on all assistant turns or only on the last one."""
    too_long: Literal["keep_end", "drop", "error"] = "keep_end"
    """What becomes of examples above max_seq_length. keep_end cuts the beginning, never the last answer."""
    max_unusable_fraction: float = Field(default=0.05, ge=0, le=1)
    """Training is refused when a larger share of examples has no token to learn from."""
    leakage: Literal["warn", "error", "off"] = "warn"
    """What to do when held-out chats also stand in the training data."""
