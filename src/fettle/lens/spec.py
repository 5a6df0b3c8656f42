"""How activations are taken: what training, calibration, steering and drift must have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, cast

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from fettle.config import SamplingConfig
from fettle.config.strict import Strict, disagreement
from fettle.errors import ModelError


def rising(values: tuple[int, ...]) -> tuple[int, ...]:
    """Refuses layers that are none, not in order, or named twice."""
    if not values or list(values) != sorted(set(values)) or values[0] < 0:
        raise PydanticCustomError("layers", "layers must be whole numbers from 0 on, rising, each once")
    return values


class ExtractionSpec(Strict):
    """One way from a text to a vector a layer."""

    layers: Annotated[tuple[int, ...], Field(strict=False), AfterValidator(rising)]
    """Layer k is the residual stream after block k of N, before any last norm; 0 are the embeddings."""
    pooling: Literal["last", "mean", "max"] = "mean"
    """Over the tokens that count."""
    source: Literal["prompt", "generated"] = "prompt"
    """Whether the tokens of the text count, or those that the model answers it with."""
    template: Literal["plain", "chat"] = "plain"
    """The text as it is, or as a user's message in the model's chat template, the answer about to begin."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of weights and activations in the model. Pooled vectors are summed and kept in float32."""
    attention: Literal["sdpa", "eager"] = "sdpa"
    """Which kernels attend."""
    exclude_special: bool = True
    """Whether tokens that begin, end or mark turns are left out of the pooling."""
    exclude_sinks: int = Field(default=1, ge=0)
    """So many first positions never count: attention gathers there whatever the text says."""
    max_tokens: int = Field(default=512, ge=1)
    """Longer texts are cut at the end, and counted; in a chat template they are refused."""
    generation: SamplingConfig | None = None
    """How answers are generated, for `source: generated`."""

    @model_validator(mode="after")
    def _keys_agree(self) -> Self:
        generated = self.source == "generated"
        if generated != (self.generation is not None):
            text = "generation says how answers come about: give it with source 'generated', and only there"
            raise disagreement({"generation": text})
        if self.generation is not None and self.generation.n != 1:
            raise disagreement({"generation": "generation.n must be 1: each text has one answer"})
        return self


def read_spec(values: Mapping[str, Any], where: str) -> ExtractionSpec:
    """A spec that was stored. Raises ModelError that names the place and what is wrong with it."""
    try:
        return ExtractionSpec.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ModelError(f"{where}: is no extraction spec: {key}: {first['msg']}") from error


def check_same(asked: Mapping[str, Any], stored: Mapping[str, Any], where: str) -> None:
    """Raises ModelError that names what differs between two specs or identities."""
    before, now = _flat(stored), _flat(asked)
    differing = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if differing:
        what = ", ".join(f"{key} {before.get(key)!r}, not {now.get(key)!r}" for key in differing)
        raise ModelError(f"{where}: was made with {what}. Give the same, or another place for the new one")


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values under dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{name}": v for name, v in _flat(cast("Mapping[str, Any]", value)).items()}
        else:
            flat[key] = value
    return flat
