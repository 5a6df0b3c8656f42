"""What an evaluation does, whichever checkpoints it looks at; a profile is a named set of these keys."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field

from fettle.config.document import parse_document
from fettle.config.load import check_section, read_text
from fettle.config.patterns import PatternsConfig
from fettle.config.strict import Strict
from fettle.errors import ConfigError

PROFILES = "evaluation_profiles.yaml"
DEFAULT_PROFILE = "full_evaluation"


class EvaluationConfig(Strict):
    subset_frac: float = Field(default=1.0, gt=0, le=1)
    """Share of the data, drawn with the seed from each kind of prompt; the same for all checkpoints."""
    max_samples: int | None = Field(default=None, ge=1)
    """At most so many samples of each file, drawn in the same way. null: all."""
    seed: int = 42
    """Of the draw."""
    max_seq_length: int = Field(default=2048, ge=2)
    """Tokens of the longest sample; what is longer is left out and counted."""
    train_on: Literal["all", "last"] = "all"
    """Which answers of a chat are scored, as data.train_on."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens of one forward pass. null: from the model's size and the free memory."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of weights in memory. auto: as stored on a GPU, float32 on a CPU."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the model runs."""
    base: bool = True
    """Whether the model that was fine-tuned is evaluated as well."""
    patterns: PatternsConfig = PatternsConfig()
    """Kinds of prompts and lengths of answers."""


def evaluation_config(
    profile: str | None, flags: Mapping[str, Any], profiles: Path | None = None
) -> EvaluationConfig:
    """A profile's keys under those that were given explicitly, which win.

    `profiles` is a YAML file with more profiles; by default `evaluation_profiles.yaml` here, where
    there is one. Raises ConfigError.
    """
    known = evaluation_profiles(profiles)
    name = profile or DEFAULT_PROFILE
    if name not in known:
        raise ConfigError(f"--profile {name}: there is no such profile. There are: {', '.join(known)}")
    return check_section(EvaluationConfig, {**known[name], **flags}, f"profile {name}")


def evaluation_profiles(path: Path | None = None) -> dict[str, dict[str, Any]]:
    """All profiles by name: those of fettle, and those of a file, which may replace them.

    Raises ConfigError for one that cannot be used, also where it is not the one asked for.
    """
    shipped = files("fettle.config").joinpath(PROFILES).read_text(encoding="utf-8")
    found = _profiles(shipped, PROFILES)
    own = path or Path(PROFILES)
    if path is not None or own.is_file():
        found |= _profiles(read_text(own), str(own))
    return found


def _profiles(text: str, name: str) -> dict[str, dict[str, Any]]:
    values = parse_document(text, name).values
    for profile, keys in values.items():
        if not isinstance(keys, dict):
            raise ConfigError(f"{name}: profile '{profile}' must be a section of keys, {{}} for the defaults")
        check_section(EvaluationConfig, cast("dict[str, Any]", keys), f"{name} [{profile}]")
    return cast("dict[str, dict[str, Any]]", values)
