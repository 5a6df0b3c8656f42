"""What an evaluation does, whichever checkpoints it looks at; a profile is a named set of these keys."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, field_validator, model_validator

from fettle.config.checkers import CheckerConfig, ChoiceConfig, checker_config
from fettle.config.diagnosis import Origins
from fettle.config.document import parse_document
from fettle.config.endpoint import EndpointConfig
from fettle.config.load import check_section, override, read_text
from fettle.config.patterns import PatternsConfig
from fettle.config.sampling import SamplingConfig
from fettle.config.strict import Strict, disagreement
from fettle.config.tasks import TasksConfig
from fettle.errors import ConfigError

PROFILES = "evaluation_profiles.yaml"
DEFAULT_PROFILE = "full_evaluation"
TAKEN = {"exact_match", "cross_entropy", "teacher_forced", "answers"}
CheckerName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]


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
    generation: SamplingConfig | None = None
    """How the last answer of each chat is generated. null: not at all, or greedily where a checker asks."""
    checkers: dict[CheckerName, CheckerConfig] = Field(default_factory=dict[str, CheckerConfig])
    """What judges the generated answers, by a name of yours: a kind alone, or a section with its keys."""
    tasks: TasksConfig | None = None
    """Tasks of lm-evaluation-harness to run as well. null: none."""
    pass_at: list[Annotated[int, Field(ge=1)]] | None = None
    """k of pass@k. null: 1, 2, 4 ... up to the answers of each prompt."""
    endpoint: EndpointConfig | None = None
    """A model behind an OpenAI-compatible API that is evaluated as well, or alone. null: none."""
    mirrors: list[Literal["tensorboard", "wandb", "mlflow", "trackio"]] = Field(default_factory=list[Any])
    """Other tools that are told the numbers of each checkpoint over its step, each by its own API."""
    price_per_hour: float | None = Field(default=None, ge=0)
    """What an hour of this machine costs, in any currency. null: unknown."""

    @field_validator("checkers", mode="before")
    @classmethod
    def _checkers(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        given = cast("dict[str, Any]", value)
        return {name: checker_config(keys, f"checkers.{name}") for name, keys in given.items()}

    @model_validator(mode="after")
    def _keys_agree(self) -> Self:
        if taken := sorted(TAKEN & self.checkers.keys()):
            raise disagreement(
                {"checkers": f"'{taken[0]}' is measured anyway. Give the checker another name"}
            )
        n = self.sampling.n if self.sampling else 1
        if too_many := [k for k in self.pass_at or () if k > n]:
            text = f"pass@{max(too_many)} cannot be told from {n} answers of a prompt. Raise generation.n"
            raise disagreement({"pass_at": text})
        if self.endpoint:
            self._endpoint_can()
        return self

    def _endpoint_can(self) -> None:
        if self.tasks:
            text = "tasks run on weights. Ask an endpoint with lm_eval --model local-chat-completions"
            raise disagreement({"tasks": text})
        for key in ("logprobs", "include_stop"):
            if self.generation and getattr(self.generation, key):
                text = f"generation.{key} cannot be had from an endpoint. Set it to false"
                raise disagreement({"generation": text})

    @property
    def sampling(self) -> SamplingConfig | None:
        """How answers are generated; None where none is needed."""
        return self.generation or (SamplingConfig() if self.answer_checkers else None)

    @property
    def answer_checkers(self) -> dict[str, CheckerConfig]:
        """Those that judge generated answers."""
        return {name: c for name, c in self.checkers.items() if name not in self.rankings}

    @property
    def rankings(self) -> dict[str, ChoiceConfig]:
        """Those that rank choices by their likelihood."""
        choices = {name: c for name, c in self.checkers.items() if isinstance(c, ChoiceConfig)}
        return {name: c for name, c in choices.items() if c.by == "likelihood"}

    @property
    def ks(self) -> list[int]:
        """k of pass@k, rising."""
        n = self.sampling.n if self.sampling else 1
        return sorted(set(self.pass_at or [2**i for i in range(n.bit_length())]))


def evaluation_config(
    profile: str | None,
    flags: Mapping[str, Any],
    profiles: Path | None = None,
    overrides: Iterable[str] = (),
) -> EvaluationConfig:
    """A profile's keys under those that were given explicitly, which win.

    A section among the flags is laid over that of the profile; `overrides` are texts such as
    `generation.temperature=0.7`. `profiles` is a YAML file with more profiles; by default
    `evaluation_profiles.yaml` here, where there is one. Raises ConfigError.
    """
    known = evaluation_profiles(profiles)
    name = profile or DEFAULT_PROFILE
    if name not in known:
        raise ConfigError(f"--profile {name}: there is no such profile. There are: {', '.join(known)}")
    values = copy.deepcopy(known[name])
    for key, value in flags.items():
        values[key] = {**(values.get(key) or {}), **value} if isinstance(value, dict) else value
    origins = Origins(f"profile {name}", {}, {})
    if complaints := [text for text in (override(values, o, origins) for o in overrides) if text]:
        raise ConfigError("\n".join(complaints))
    return check_section(EvaluationConfig, values, f"profile {name}")


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
