"""The service: is it there, does it know the key and the model; clients that train on it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from loguru import logger

from fettle.config import Config, TinkerConfig
from fettle.config.lora import tinker_trains
from fettle.errors import ConfigError, ModelError, RunError
from fettle.train.tinker.failure import refusal
from fettle.train.tinker.sdk import lacks_key, rest_client, service_url, settled, supported_models

# The SDK says nothing for minutes against a port that nobody listens on.
HEALTH_SECONDS = 5.0
# A laptop that sleeps, a router that restarts, a service that deploys: all are back within this.
PATIENCE_SECONDS = 1800.0
LONGEST_PAUSE_SECONDS = 30.0
# The SDK asks again by itself, for minutes, and says nothing of it.
SILENT_SECONDS = 60.0


class Service:
    """A session with the service, opened on first use; another takes its place when it breaks."""

    def __init__(self, config: Config) -> None:
        """Raises a one-line error within seconds where service, key or model cannot be used."""
        settings = config.tinker or TinkerConfig()
        self.url = service_url(settings.base_url)
        self.ttl_seconds = None if settings.ttl_days is None else settings.ttl_days * 86400
        self._config = config
        self._client: Any = None
        # What people train on is nobody's telemetry.
        os.environ.setdefault("TINKER_TELEMETRY", "0")
        problem = self.problem()
        if problem is not None:
            raise RunError(
                f"{self.url}: {problem}. Is it up, and is tinker.base_url (or TINKER_BASE_URL) right?"
            )
        self.context = self._supported()

    def problem(self) -> str | None:
        """Why the service cannot be used now; None where it answers."""
        httpx: Any = import_module("httpx")
        try:
            answer = httpx.get(f"{self.url}/api/v1/healthz", timeout=HEALTH_SECONDS)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"does not answer ({str(error) or type(error).__name__})"
        return None if answer.is_success else f"answers with status {answer.status_code}"

    def wait(self) -> None:
        """Sleep until the service answers. Raises RunError when patience ends."""
        began, pause = time.monotonic(), 1.0
        while (problem := self.problem()) is not None:
            if time.monotonic() - began > PATIENCE_SECONDS:
                raise RunError(
                    f"{self.url}: {problem}, for {PATIENCE_SECONDS / 60:.0f} minutes now. "
                    "The same command goes on from the last checkpoint"
                )
            logger.warning("{}: {}; asking again in {:.0f} s", self.url, problem, pause)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    @contextmanager
    def waiting(self) -> Generator[None]:
        """Say in the log, ever more seldom, that no answer has come yet."""
        over = threading.Event()

        def tell() -> None:
            waited, pause = 0.0, SILENT_SECONDS
            while not over.wait(pause):
                waited += pause
                logger.warning("{}: no answer for {:.0f} s; still waiting", self.url, waited)
                pause = waited

        threading.Thread(target=tell, daemon=True).start()
        try:
            yield
        finally:
            over.set()

    # -- clients ------------------------------------------------------------------

    def new_model(self) -> Any:
        """A client that trains fresh LoRA weights, drawn with the seed of the configuration."""
        lora = self._config.lora
        assert lora is not None
        attention, mlp = tinker_trains(lora.target_modules)
        return settled(
            self._session().create_lora_training_client(
                base_model=self._config.model,
                rank=lora.rank,
                seed=self._config.training.seed,
                train_attn=attention,
                train_mlp=mlp,
                train_unembed=False,
            )
        )

    def restored_model(self, url: str, *, optimizer: bool = True) -> Any:
        """A client that goes on from a saved state."""
        session = self._session()
        if optimizer:
            return settled(session.create_training_client_from_state_with_optimizer(url))
        return settled(session.create_training_client_from_state(url))

    def rest(self) -> Any:
        """Lists, deletes and hands out what is saved."""
        return rest_client(self.url)

    def forget(self, url: str) -> None:
        """Delete what is saved at `url`, if it is still there. Raises RunError where the service does not."""
        tinker: Any = import_module("tinker")
        try:
            self.rest().delete_checkpoint_from_tinker_path(url).result()
        except tinker.NotFoundError:
            logger.debug("{}: the service has it no longer", url)
        except (tinker.TinkerError, ValueError) as error:
            raise refusal(url, error) from error

    def renew(self) -> None:
        """Open another session on next use."""
        self._client = None

    def _session(self) -> Any:
        if self._client is None:
            self._client = import_module("tinker").ServiceClient(base_url=self.url)
        return self._client

    def _supported(self) -> int | None:
        """Tokens that a sequence of the model may have; None where the service does not tell.

        Raises ConfigError for a key that the service refuses, ModelError for a model that it does not train.
        """
        tinker: Any = import_module("tinker")
        try:
            models = supported_models(self.url)
        except tinker.AuthenticationError as error:
            raise ConfigError(f"{self.url} refuses the API key. Set TINKER_API_KEY to a valid one") from error
        except tinker.TinkerError as error:
            # Before anything is sent the SDK looks for a key, also where `tinker auth login` keeps it.
            told = str(error)
            if lacks_key(error):
                told = "backend 'tinker' needs an API key: set TINKER_API_KEY, or run `tinker auth login`"
            raise ConfigError(f"{self.url}: {told or type(error).__name__}") from error
        found = {
            model.model_name: model for model in models if getattr(model, "trainable", None) is not False
        }
        name = self._config.model
        if found and name not in found:
            near = get_close_matches(name, [str(key) for key in found], n=3, cutoff=0.3) or sorted(found)[:3]
            raise ModelError(f"model: {self.url} does not train '{name}'. It trains e.g. {', '.join(near)}")
        context: int | None = found[name].max_context_length if found else None
        length = self._config.training.max_seq_length
        if context is not None and length >= context:
            raise ConfigError(
                f"training.max_seq_length: {length} is too long: with the token that evaluation has the "
                f"service add, '{name}' takes {context}. Use {context - 1} or less"
            )
        return context
