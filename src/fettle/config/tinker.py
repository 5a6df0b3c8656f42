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

    def cost(self, *, train: int = 0, prefill: int = 0, sample: int = 0) -> float:
        """US dollars for so many tokens."""
        return (train * self.train + prefill * self.prefill + sample * self.sample) / 1e6


class TinkerConfig(Strict):
    base_url: str | None = Field(default=None, pattern="^https?://.+")
    """Address of the service. null: TINKER_BASE_URL, else that of Thinking Machines."""
    ttl_days: int | None = Field(default=None, ge=1, le=3650)
    """Days after which the service forgets a checkpoint. null: it keeps them until they are removed."""
    prices: TinkerPrices | None = None
    """What tokens cost. null: what was published when fettle was, where it names the model."""
    budget: float | None = Field(default=None, gt=0)
    """US dollars: a step that would take the run above it is not sent; state is saved, and the run ends."""


def prices_in_force(model: str, tinker: TinkerConfig | None) -> tuple[TinkerPrices, str | None] | None:
    """Prices, and the day they were published, None for those of the configuration; None where unknown."""
    if tinker is not None and tinker.prices is not None:
        return tinker.prices, None
    return published_prices(model)


def published_prices(model: str) -> tuple[TinkerPrices, str] | None:
    """Prices of a model, and the day they were read; None for a model that the table lacks."""
    text = files("fettle.config").joinpath("tinker_prices.yaml").read_text(encoding="utf-8")
    table: dict[str, Any] = yaml.safe_load(text)
    row = table["models"].get(model)
    return None if row is None else (TinkerPrices(**row), str(table["as_of"]))
