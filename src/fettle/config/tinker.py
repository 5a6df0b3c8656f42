"""The `tinker` section: where the service is, how long it keeps what is saved, what it costs."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import yaml
from pydantic import Field

from fettle.config.strict import Strict


class TinkerPrices(Strict):
    """What a million tokens cost, in US dollars."""

    train: float = Field(ge=0)
    """Of forward and backward passes."""
    prefill: float = Field(ge=0)
    """Of forward passes alone: fixed evals, prompts."""
    sample: float = Field(ge=0)
    """Of answers."""


class TinkerConfig(Strict):
    base_url: str | None = Field(default=None, pattern="^https?://.+")
    """Address of the service. null: TINKER_BASE_URL, else that of Thinking Machines."""
    ttl_days: int | None = Field(default=None, ge=1, le=3650)
    """Days after which the service forgets a checkpoint. null: it keeps them until they are removed."""
    prices: TinkerPrices | None = None
    """What tokens cost, for `fettle train --estimate`. null: those that were published when fettle was."""


def published_prices(model: str) -> tuple[TinkerPrices, str] | None:
    """Prices of a model, and the day they were read; None for a model that the table lacks."""
    text = files("fettle.config").joinpath("tinker_prices.yaml").read_text(encoding="utf-8")
    table: dict[str, Any] = yaml.safe_load(text)
    row = table["models"].get(model)
    return None if row is None else (TinkerPrices(**row), str(table["as_of"]))
