"""A model behind an OpenAI-compatible API: its answers, and what it thinks of given ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from collections.abc import Sequence as Collection
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from loguru import logger

from fettle.config import SamplingConfig
from fettle.config.endpoint import EndpointConfig
from fettle.data.sequence import Sequence
from fettle.errors import ConfigError, ModelError
from fettle.evaluation.endpoint_scores import WAYS, EndpointScore, Way, unmeasured
from fettle.evaluation.openai_api import ApiError, OpenAIApi
from fettle.evaluation.usage import Usage, counts_of
from fettle.scoring.stop_text import cut

Conversation = Collection[Mapping[str, Any]]
"""Messages with role and content, the last one to be answered."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EndpointAnswer:
    """One answer to one conversation."""

    prompt: int
    """Index of the conversation."""
    number: int
    """Which of its answers, from 0."""
    text: str | None
    """Up to the stop text; None where no answer came, of which `reason` tells."""
    ended: str | None = None
    """The server's finish_reason: stop, length, ..."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    """As the server counts; None where it does not."""
    reason: str | None = None
    entropy: None = None
    logprob: None = None
    """Of the answer's own tokens: not asked for."""

    @property
    def length(self) -> int | None:
        """In tokens."""
        return self.completion_tokens


class Endpoint:
    """Asks many things at once. An answer that does not come is unscored with the reason; a server that
    refuses the key, lacks the model or is gone ends all with ModelError. Nothing is kept here: whoever asks
    keeps answers as they come and asks for the rest later; what an answer is drawn with does not depend on
    its place."""

    def __init__(self, config: EndpointConfig) -> None:
        """Raises MissingExtraError without httpx, ConfigError where the environment lacks the key."""
        self.config = config
        self._api = OpenAIApi(config, f"the endpoint {config.base_url}")

    @property
    def retries(self) -> int:
        """Requests that were made again."""
        return self._api.retries

    @property
    def usage(self) -> Usage:
        """What was asked so far."""
        return self._api.usage

    def spent(self) -> dict[str, Any]:
        """The same and what it cost, as plain values; None is what the server does not tell."""
        return self._api.spent()

    def check(self) -> list[str]:
        """The models that the server names. Raises ModelError, one line with address, status and cure.

        A server that names none is asked for one token.
        """
        models = self._api.models()
        if not models:
            [[answer]] = self.answers([[{"role": "user", "content": "."}]], SamplingConfig(max_new_tokens=1))
            if answer.text is None:
                raise ModelError(answer.reason)
        elif self.config.model not in models:
            logger.warning("{} names no model {}: {}", self.config.base_url, self.config.model, models[:5])
        return models

    def answers(
        self,
        conversations: Collection[Conversation],
        settings: SamplingConfig,
        on_answer: Callable[[EndpointAnswer], None] | None = None,
        *,
        wanted: Collection[Collection[int]] | None = None,
    ) -> list[list[EndpointAnswer]]:
        """`settings.n` answers to each conversation, in their order; `on_answer` has each as it comes.

        `wanted` are the numbers of the answers to each that are asked for, where these are not all.
        """
        found: list[list[EndpointAnswer]] = [[] for _ in conversations]

        async def collect() -> None:
            async for answer in self.answers_as_they_come(conversations, settings, wanted):
                found[answer.prompt].append(answer)
                if on_answer is not None:
                    on_answer(answer)

        _finish(collect)
        return [sorted(answers, key=lambda answer: answer.number) for answers in found]

    def scores(
        self, sequences: Collection[Sequence], on_score: Callable[[EndpointScore], None] | None = None
    ) -> list[EndpointScore]:
        """Log-probabilities of the completions, in the order of the input, where the server gives them."""
        found: dict[int, EndpointScore] = {}

        async def collect() -> None:
            async for score in self.scores_as_they_come(sequences):
                found[score.sequence] = score
                if on_score is not None:
                    on_score(score)

        _finish(collect)
        return [found[i] for i in range(len(sequences))]

    async def answers_as_they_come(
        self,
        conversations: Collection[Conversation],
        settings: SamplingConfig,
        wanted: Collection[Collection[int]] | None = None,
    ) -> AsyncIterator[EndpointAnswer]:
        """Each answer when it is there. Every one is a request of its own, the seed that of its number."""
        for key in ("logprobs", "include_stop"):
            if getattr(settings, key):
                raise ConfigError(f"{key}: cannot be had from an endpoint. Set it to false")
        async with self._api.async_client(self.config.concurrency) as client:
            numbers = wanted if wanted is not None else [range(settings.n)] * len(conversations)
            places = ((i, number) for i, own in enumerate(numbers) for number in own)
            jobs = (self._answer(client, i, number, conversations[i], settings) for i, number in places)
            async for answer in self._as_done(jobs):
                yield answer

    async def scores_as_they_come(self, sequences: Collection[Sequence]) -> AsyncIterator[EndpointScore]:
        """Each score when it is there; all without numbers where the server gives none."""
        async with self._api.async_client(self.config.concurrency) as client:
            measurable = [sequence for sequence in sequences if sequence.completion_tokens]
            way = await self._way(client, measurable[0]) if measurable else None
            jobs = (self._score(client, i, sequence, way) for i, sequence in enumerate(sequences))
            async for score in self._as_done(jobs):
                yield score

    async def _answer(
        self, client: Any, i: int, number: int, conversation: Conversation, settings: SamplingConfig
    ) -> EndpointAnswer:
        request: dict[str, Any] = {
            "model": self.config.model,
            "messages": [dict(message) for message in conversation],
            "max_tokens": settings.max_new_tokens,
            "temperature": settings.temperature,
        }
        # What changes nothing is left out: servers refuse keys that they do not know.
        if settings.top_p < 1:
            request["top_p"] = settings.top_p
        if settings.stop:
            request["stop"] = settings.stop
        if settings.temperature > 0:
            request["seed"] = settings.seed + number
        try:
            answer = await self._api.post_async(client, "chat/completions", request)
        except ApiError as error:
            if error.fatal:
                raise
            return EndpointAnswer(i, number, None, reason=str(error))
        try:
            choice = answer["choices"][0]
            text, ended = choice["message"].get("content"), choice.get("finish_reason")
            counts = counts_of(answer)
        except (AttributeError, KeyError, IndexError, TypeError):
            return EndpointAnswer(i, number, None, reason=f"not an answer of a chat: {str(answer)[:100]}")
        if not isinstance(text, str):
            reason = f"an answer without text (finish_reason {ended})"
            return EndpointAnswer(i, number, None, ended, *counts, reason=reason)
        return EndpointAnswer(i, number, cut(text, settings.stop, include=False), ended, *counts)

    async def _way(self, client: Any, sequence: Sequence) -> Way | None:
        """How this server tells log-probabilities of a prompt, tried on a few tokens; None: not at all."""
        few = Sequence(sequence.input_ids[:4], [0, *[1] * (min(4, len(sequence)) - 1)])
        for way in WAYS:
            try:
                answer = await self._api.post_async(
                    client, "completions", way.request(self.config.model, few)
                )
            except ApiError as error:
                if error.fatal and error.status != 404:
                    raise
                continue
            if way.read(answer, few) is not None:
                return way
        logger.info("{} gives no log-probabilities of a prompt", self.config.base_url)
        return None

    async def _score(self, client: Any, i: int, sequence: Sequence, way: Way | None) -> EndpointScore:
        if not sequence.completion_tokens:
            return unmeasured(i, "it has no completion")
        if way is None:
            return unmeasured(i, "the server gives no log-probabilities of a prompt")
        try:
            answer = await self._api.post_async(
                client, "completions", way.request(self.config.model, sequence)
            )
        except ApiError as error:
            if error.fatal:
                raise
            return unmeasured(i, str(error))
        read = way.read(answer, sequence)
        if read is None:
            return unmeasured(i, "its log-probabilities do not belong to the tokens that were sent")
        return EndpointScore(i, *read)

    async def _as_done(self, jobs: Iterator[Coroutine[Any, Any, T]]) -> AsyncIterator[T]:
        """Results as they come, so many at once; what runs still is cancelled where the reader leaves."""
        running: set[asyncio.Task[T]] = set()
        done: set[asyncio.Task[T]] = set()
        try:
            while True:
                running |= {
                    asyncio.create_task(job) for job in islice(jobs, self.config.concurrency - len(running))
                }
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                # What came with the one that ends all is paid for, too.
                for task in sorted(done, key=lambda task: task.exception() is not None):
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, *done, return_exceptions=True)


def _finish(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run to the end, in a thread of its own: that of a notebook has a loop that runs already."""
    from anyio.from_thread import start_blocking_portal  # Comes with httpx.

    with start_blocking_portal() as portal:
        try:
            portal.call(work)
        except BaseException:
            portal.call(portal.stop, True)
            raise
