"""Requests to an OpenAI-compatible API: asked again where that helps, refused in one line."""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import import_module
from typing import Any

from loguru import logger

from fettle.config.endpoint import ApiConfig
from fettle.errors import ConfigError, MissingExtraError, ModelError
from fettle.evaluation.usage import Usage

LONGEST_PAUSE = 60.0
FIRST_PAUSE = 0.5
SHOWN = 200
BUSY = frozenset({408, 409, 425, 429})
# No other request would fare better: the key, the address or the name of the model is wrong.
HOPELESS = frozenset({401, 403, 404})


class ApiError(ModelError):
    """A request without an answer."""

    def __init__(self, message: str, status: int | None = None, *, fatal: bool = False) -> None:
        super().__init__(message)
        self.status = status
        """Of the refusal; None where none came."""
        self.fatal = fatal
        """Whether other requests would fail the same way."""


@dataclass(frozen=True, slots=True)
class _Again:
    seconds: float


class OpenAIApi:
    """One server, and how its answers are read. The key is in the requests and nowhere else.

    Asked again, after a pause, is a request that met a busy or failing server (408, 409, 425, 429, 5xx), a
    broken or timed out connection, or an answer that is no JSON.
    """

    def __init__(self, config: ApiConfig, who: str, *, extra: str = "eval") -> None:
        """`who` names the server in errors. Raises MissingExtraError without httpx, ConfigError where the
        environment lacks the key."""
        try:
            self._httpx: Any = import_module("httpx")
        except ImportError as error:
            raise MissingExtraError(
                f"{who} needs httpx. Install it with: pip install 'fettle[{extra}]'"
            ) from error
        self.config = config
        self.retries = 0
        """Requests that were made again."""
        self.usage = Usage()
        self._who = who
        self._key = _key(config, who)

    def client(self) -> Any:
        """A client that waits in its thread; may be shared by threads."""
        return self._httpx.Client(timeout=self.config.timeout_seconds, headers=self._headers())

    def async_client(self, connections: int) -> Any:
        """A client for coroutines of one event loop, which keeps so many connections open."""
        limits = self._httpx.Limits(max_connections=None, max_keepalive_connections=connections)
        return self._httpx.AsyncClient(
            timeout=self.config.timeout_seconds, headers=self._headers(), limits=limits
        )

    def post(self, client: Any, path: str, request: dict[str, Any]) -> Any:
        """The JSON of an answer. Raises ApiError."""
        for attempt in range(self.config.attempts):
            try:
                answer: Any = client.post(self._url(path), json=request)
            except self._httpx.RequestError as error:
                answer = error
            said = self._read(answer, attempt)
            if not isinstance(said, _Again):
                return said
            time.sleep(said.seconds)
        raise AssertionError("the last attempt is never made again")

    async def post_async(self, client: Any, path: str, request: dict[str, Any]) -> Any:
        """The same for coroutines; here the timeout bounds a request as a whole."""
        for attempt in range(self.config.attempts):
            try:
                async with asyncio.timeout(self.config.timeout_seconds):
                    answer: Any = await client.post(self._url(path), json=request)
            except (self._httpx.RequestError, TimeoutError) as error:
                answer = error
            said = self._read(answer, attempt)
            if not isinstance(said, _Again):
                return said
            await asyncio.sleep(said.seconds)
        raise AssertionError("the last attempt is never made again")

    def models(self) -> list[str]:
        """Names of the models that the server has, asked once; [] where it fails to list them.

        Raises ModelError where it is not there, refuses the key, or is no such server.
        """
        url = self._url("models")
        try:
            with self.client() as client:
                answer: Any = client.get(url)
        except self._httpx.RequestError as error:
            raise ModelError(
                f"{url}: cannot be reached: {self._problem(error)}. Start the server, or correct base_url"
            ) from error
        if answer.status_code in HOPELESS:
            raise ModelError(f"{url}: status {answer.status_code}: {self._cure(answer.status_code)}")
        if answer.status_code != 200:
            return []
        try:
            return [str(entry["id"]) for entry in answer.json()["data"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{url}: gives no list of models. Does base_url end with /v1?") from error

    def spent(self) -> dict[str, Any]:
        """What was asked so far, and what that cost, as plain values; None is what is not known."""
        return {
            "base_url": self.config.base_url,
            "model": self.config.model,
            "requests": self.usage.requests,
            "prompt_tokens": self.usage.prompt_tokens,
            "completion_tokens": self.usage.completion_tokens,
            "retries": self.retries,
            "cost": self.usage.cost(self.config),
        }

    def _read(self, answer: Any, attempt: int) -> Any:
        """What an answer holds, or the pause until the next attempt."""
        asked_for = None
        if isinstance(answer, Exception):
            problem = self._problem(answer)
        elif answer.status_code == 200:
            try:
                body: Any = answer.json()
                self.usage.add(body)
                return body
            except ValueError:
                problem = f"its answer is no JSON: '{self._safe(answer.text)}'"
        else:
            problem, asked_for = f"status {answer.status_code}", answer.headers.get("retry-after")
            if answer.status_code not in BUSY and answer.status_code < 500:
                said, fatal = f"{self._who} refused: {problem}: {self._safe(answer.text)}", False
                if answer.status_code in HOPELESS:
                    said, fatal = f"{said}; {self._cure(answer.status_code)}", True
                raise ApiError(said, answer.status_code, fatal=fatal)
        if attempt + 1 == self.config.attempts:
            gone = isinstance(answer, self._httpx.ConnectError | self._httpx.ConnectTimeout)
            said = f"{self._who} gave no answer in {self.config.attempts} attempts: {problem}"
            said += ". Start the server, or correct base_url" if gone else ""
            raise ApiError(said, getattr(answer, "status_code", None), fatal=gone)
        self.retries += 1
        seconds = pause(attempt, asked_for)
        logger.debug("{} is asked again in {:.1f} s: {}", self._who, seconds, problem)
        return _Again(seconds)

    def _url(self, path: str) -> str:
        return f"{self.config.base_url.rstrip('/')}/{path}"

    def _headers(self) -> dict[str, str]:
        return {} if self._key is None else {"Authorization": f"Bearer {self._key}"}

    def _cure(self, status: int) -> str:
        if status == 404:
            return f"does base_url end with /v1, and does the server have the model '{self.config.model}'?"
        return "set api_key_env to the environment variable that holds the key of this server"

    def _problem(self, error: Exception) -> str:
        return f"{type(error).__name__}: {self._safe(str(error)) or 'no answer in time'}"

    def _safe(self, text: str) -> str:
        """A text that may be shown, in one line: some servers repeat the key they refuse."""
        text = text if self._key is None else text.replace(self._key, "***")
        return " ".join(text[: 4 * SHOWN].split())[:SHOWN]


def _key(config: ApiConfig, who: str) -> str | None:
    if config.api_key_env is None:
        return None
    key = os.environ.get(config.api_key_env, "").strip()
    if not key:
        raise ConfigError(
            f"{who}: api_key_env: the environment variable {config.api_key_env} is not set. Export it first."
        )
    return key


def pause(attempt: int, asked_for: str | None) -> float:
    """Seconds until the next attempt: as the server asks, or twice as long each time with some chance.

    A server asks in seconds or by a date (RFC 9110, 10.2.3).
    """
    asked = _seconds(asked_for or "")
    if asked is not None:
        return min(LONGEST_PAUSE, max(0.0, asked))
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * random.uniform(0.5, 1.0)


def _seconds(asked_for: str) -> float | None:
    try:
        return float(asked_for)
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(asked_for)
    except ValueError:
        return None
    return (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
