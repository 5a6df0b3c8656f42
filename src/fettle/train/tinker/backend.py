"""The Tinker backend: the weights are with a service, the loop is here."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Collection
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from loguru import logger

from fettle.config import Config, prices_in_force
from fettle.data.sequence import Sequence
from fettle.errors import RunError
from fettle.runs.checkpoints import ASIDE, INFO
from fettle.runs.folder import read_json
from fettle.runs.records import SampleResults
from fettle.scoring.generate import Continuation, end_tokens
from fettle.train.backend import StepResult
from fettle.train.bill import Bill
from fettle.train.evaluation import FixedEvalSet
from fettle.train.layer_movement import LayerMovement
from fettle.train.model import first_line
from fettle.train.tinker.failure import NoSamplerError, expiry, is_transient, refusal
from fettle.train.tinker.fixed_eval import evaluate
from fettle.train.tinker.sampling import Sampler, greedy_answers
from fettle.train.tinker.service import LONGEST_PAUSE_SECONDS, Service
from fettle.train.tinker.step import RemoteStep

# Failures in a row, each on a client of its own, after which it is not the connection.
MOST_FAILURES = 8

T = TypeVar("T")


class TinkerBackend:
    """Trains LoRA weights on a service, one step ahead of what is known.

    One failed request leaves the model of its client in a state that nobody knows. Then a new client
    is built from the last saved state, or from the seed, and every step since is submitted again.
    """

    lookahead = 1
    layer_movement: LayerMovement | None = None
    model: Any = None
    applies_non_finite = True

    def __init__(self, config: Config, service: Service, tokenizer: Any) -> None:
        self._config = config
        self._service = service
        self._tokenizer = tokenizer
        self._client: Any = None
        self._state: str | None = None
        """Where the service keeps the last state; None: that of the seed."""
        self._since: list[RemoteStep] = []
        """Steps submitted since that state, in order."""
        self._collected = 0
        """How many of them are known to be done."""
        self._failures = 0
        self._samples = True
        """Whether the service samples, as far as is known."""
        known = prices_in_force(config.model, config.tinker)
        self._prices_as_of = known[1] if known else None
        self.bill = Bill(known[0] if known else None, config.tinker.budget if config.tinker else None)

    # -- steps --------------------------------------------------------------------

    def step(
        self, batch: Collection[Sequence], learning_rate: float, *, read_layers: bool = False
    ) -> PendingRemoteStep:
        if self._client is None:
            self._with_client(lambda client: None)
        step = RemoteStep(batch, learning_rate)
        self._since.append(step)
        self._submit(step, self._client)
        return PendingRemoteStep(self, step)

    def finish(self, step: RemoteStep) -> StepResult:
        """Wait for a step; one that fails is done again on a new client, after all that came before it."""
        result = self._with_client(lambda client: step.collect())
        self._collected = max(self._collected, self._since.index(step) + 1)
        return result

    def _with_client(self, work: Callable[[Any], T]) -> T:
        """What `work` returns of a client that holds all submitted steps.

        Raises RunError for what stays broken.
        """
        while True:
            try:
                with self._service.waiting():
                    if self._client is None:
                        self._client = self._rebuilt()
                    result = work(self._client)
            except Exception as error:  # noqa: BLE001 - the SDK raises much beside its own errors
                self._failed(error)
            else:
                self._failures = 0
                return result

    def _rebuilt(self) -> Any:
        state = self._state
        client = self._service.new_model() if state is None else self._service.restored_model(state)
        for step in self._since:
            self._submit(step, client)
        for step in self._since[: self._collected]:
            step.collect()
        return client

    def _submit(self, step: RemoteStep, client: Any) -> None:
        step.submit(client, self._config.training)
        self.bill.train_tokens += step.tokens

    def _failed(self, error: Exception) -> None:
        """Make ready for another try. Raises RunError where there is no point in one."""
        self._failures += 1
        if isinstance(error, RunError):
            raise error
        if not is_transient(error) or self._failures > MOST_FAILURES:
            raise refusal(self._service.url, error) from error
        pause = min(2.0 ** (self._failures - 1), LONGEST_PAUSE_SECONDS)
        logger.warning(
            "{}: {}; in {:.0f} s {} steps are submitted again, from {}",
            self._service.url,
            first_line(error),
            pause,
            len(self._since),
            self._state or "the beginning",
        )
        time.sleep(pause)
        self._client = None
        self._service.wait()
        self._service.renew()

    # -- evaluation -----------------------------------------------------------------

    def evaluate(self, eval_set: FixedEvalSet) -> SampleResults:
        try:
            return self._with_client(
                lambda client: evaluate(client, eval_set, self.bill, sampling=self._samples)
            )
        except NoSamplerError as error:
            self._sample_no_more(error)
            return self.evaluate(eval_set)

    def sample(
        self, prompts: Collection[Collection[int]], *, max_new_tokens: int, ends: Collection[int] = ()
    ) -> list[Continuation] | None:
        if not self._samples:
            return None
        stops = sorted(end_tokens(None, self._tokenizer, ends))
        context = self._service.context
        try:
            return self._with_client(
                lambda client: greedy_answers(
                    Sampler(client, self.bill), prompts, max_new_tokens, stops=stops, context=context
                )
            )
        except NoSamplerError as error:
            self._sample_no_more(error)
            return None

    def _sample_no_more(self, error: NoSamplerError) -> None:
        logger.warning("{}: {}. Exact match and answers are not measured", self._service.url, error)
        self._samples = False
        # The client that was refused is of no use: see the class.
        self._client, self._failures = None, 0
        self._service.renew()

    # -- checkpoints ----------------------------------------------------------------

    def save(self, folder: Path) -> dict[str, Any]:
        ttl = self._service.ttl_seconds
        name = folder.name.removeprefix(ASIDE)
        state = self._with_client(lambda client: client.save_state(name, ttl_seconds=ttl).result())
        self._state, self._since, self._collected = state.path, [], 0
        expires = None if ttl is None else datetime.now(UTC) + timedelta(seconds=ttl)
        return {
            "url": state.path,
            "service": self._service.url,
            "expires_at": None if expires is None else expires.isoformat(timespec="seconds"),
        }

    def load(self, folder: Path) -> None:
        info = read_json(folder / INFO) or {}
        url = info.get("url")
        if not isinstance(url, str):
            raise RunError(
                f"{folder}: {INFO} names no state on the service, so training cannot go on from here"
            )
        self._state, self._since, self._collected, self._client = url, [], 0, None
        try:
            self._with_client(lambda client: None)
        except RunError as error:
            raise RunError(
                f"{folder}: the service does not give back {url}{expiry(info)} ({error}). "
                "Remove the folder to go on from an earlier checkpoint"
            ) from error

    def forget(self, url: str) -> None:
        self._service.forget(url)

    def provenance(self) -> dict[str, Any]:
        return {
            "model": {"name": self._config.model, "fingerprint": f"tinker:{self._config.model}"},
            "device": self._service.url,
            "prices": None
            if self.bill.prices is None
            else {**self.bill.prices.model_dump(), "as_of": self._prices_as_of},
            "versions": {name: version(name) for name in ("tinker", "transformers")},
        }


class PendingRemoteStep:
    """A step that was submitted to the service."""

    def __init__(self, backend: TinkerBackend, step: RemoteStep) -> None:
        self._backend, self._step = backend, step

    def result(self) -> StepResult:
        return self._backend.finish(self._step)
