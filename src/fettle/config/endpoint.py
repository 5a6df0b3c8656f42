"""A model behind an OpenAI-compatible API: vLLM, SGLang, llama.cpp, `transformers serve`, or a provider."""

from __future__ import annotations

from pydantic import Field

from fettle.config.strict import Strict


class ApiConfig(Strict):
    """How such an API is reached."""

    base_url: str = Field(pattern=r"^https?://")
    """Address of an OpenAI-compatible API, up to and with /v1."""
    model: str
    """Name of the model, as the server knows it."""
    api_key_env: str | None = None
    """Environment variable that holds the key. null: none is sent."""
    attempts: int = Field(default=5, ge=1, le=20)
    """Requests for one answer, where the server is busy or cannot be reached."""
    timeout_seconds: float = Field(default=60.0, gt=0)
    """Of one request."""
    prompt_price: float | None = Field(default=None, ge=0)
    """What a million tokens of prompts cost, in any currency. null: unknown."""
    completion_price: float | None = Field(default=None, ge=0)
    """The same of answers."""


class EndpointConfig(ApiConfig):
    """A model that is evaluated."""

    tokenizer: str | None = None
    """Folder or hub id of its tokenizer, to ask how likely the right answers are. null: that of a run that is
    evaluated beside it, where the server counts the tokens of a prompt as that does; else it is not asked."""
    revision: str | None = None
    """What the server runs, in any words. Answers are kept by address and name of the model: give another
    where the model behind them has changed, and all is asked anew."""

    timeout_seconds: float = Field(default=600.0, gt=0)
    """Of one request: all of its answer must have come by then."""
    concurrency: int = Field(default=16, ge=1)
    """Requests that wait for the server at once."""
