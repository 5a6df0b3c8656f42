"""What a server said once is not asked again: answers and log-probabilities by what was asked."""

from __future__ import annotations

from collections.abc import Sequence as Collection
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import xxhash

from fettle.config import EndpointConfig, SamplingConfig
from fettle.data.sequence import Sequence
from fettle.errors import ModelError
from fettle.evaluation.answer_bytes import without_say
from fettle.evaluation.cache import ScoreCache
from fettle.evaluation.cached_model import OnProgress
from fettle.evaluation.endpoint import Endpoint, EndpointAnswer
from fettle.evaluation.endpoint_scores import EndpointScore, unmeasured
from fettle.evaluation.samples import EncodedData
from fettle.evaluation.unencoded import UnencodedData
from fettle.train.fixed_prompt import FixedPrompt

TOOLS = "the chat has tools, which are not offered to an endpoint"


class CachedEndpoint:
    """Keys are the address, the name of the model, and all that the request says; answers that did not come
    are asked for again. Whatever the server does with equal requests, the first answer stands."""

    def __init__(self, cache: ScoreCache, config: EndpointConfig) -> None:
        """Raises MissingExtraError without httpx, ConfigError where the environment lacks the key."""
        self._cache = cache
        self._config = config
        self._endpoint = Endpoint(config)
        self._is_checked = False
        self._disagreement: dict[str, str | None] = {}
        """By tokenizer that was not named for this server: why it cannot be its own."""

    def answer(
        self, data: EncodedData | UnencodedData, settings: SamplingConfig, on_answers: OnProgress
    ) -> tuple[list[list[EndpointAnswer]], int]:
        """The answers to every prompt in their order, and how many of them were asked for.

        Each is kept as it comes. Raises ModelError where the server is gone or refuses everything.
        """
        chats = [_messages(prompt) for prompt in data.prompts]
        keys = [[self._answer_key(chat, i, settings) for i in range(settings.n)] for chat in chats]
        known = self._cache.get([key for of_chat in keys for key in of_chat])
        found = {key: _unpacked_answer(value) for key, value in known.items()}
        wanted: list[list[int]] = []
        taken = set(found)
        for prompt, of_chat in zip(data.prompts, keys, strict=True):
            if prompt.example.tools:
                found |= {key: EndpointAnswer(0, 0, None, reason=TOOLS) for key in of_chat}
            own = [] if prompt.example.tools else [i for i, key in enumerate(of_chat) if key not in taken]
            taken.update(of_chat)  # A prompt that stands in the data twice has the same answers.
            wanted.append(own)
        total, come = sum(map(len, wanted)), 0

        def keep(answer: EndpointAnswer) -> None:
            nonlocal come
            key = keys[answer.prompt][answer.number]
            found[key] = answer
            if answer.text is not None:
                self._cache.put([(key, _packed_answer(answer))])
            come += 1
            on_answers(come, total)

        if total:
            self._ready().answers(chats, settings, keep, wanted=wanted)
        answers = [
            [replace(found[key], prompt=i, number=number) for number, key in enumerate(of_chat)]
            for i, of_chat in enumerate(keys)
        ]
        return answers, total

    def score(
        self, data: EncodedData, sequences: Collection[Sequence], on_tokens: OnProgress
    ) -> tuple[list[EndpointScore], int]:
        """What the server says of every sequence, and of how many it said it now. Raises ModelError.

        All are unmeasured, with the reason, where it tells no log-probabilities, or where the tokens are not
        known to be its own.
        """
        keys = [self._score_key(sequence) for sequence in sequences]
        found = {key: _unpacked_score(value) for key, value in self._cache.get(keys).items()}
        missing = list({key: i for i, key in enumerate(keys) if key not in found}.values())
        reason = self._disagrees(data) if missing else None
        if reason is not None:
            found |= {keys[i]: unmeasured(i, reason) for i in missing}
            missing = []
        tokens, come = sum(len(sequences[i]) for i in missing), 0

        def keep(score: EndpointScore) -> None:
            nonlocal come
            at = missing[score.sequence]
            found[keys[at]] = score
            if score.logprob is not None:
                self._cache.put([(keys[at], _packed_score(score))])
            come += len(sequences[at])
            on_tokens(come, tokens)

        if missing:
            self._ready().scores([sequences[i] for i in missing], keep)
        run = sum(found[keys[i]].logprob is not None for i in missing)
        return [replace(found[key], sequence=i) for i, key in enumerate(keys)], run

    def spent(self) -> dict[str, Any]:
        """What was asked of the server since this was made; None is what it does not tell."""
        return self._endpoint.spent()

    def _ready(self) -> Endpoint:
        """The server, asked once whether it is there."""
        if not self._is_checked:
            self._endpoint.check()
            self._is_checked = True
        return self._endpoint

    def _disagrees(self, data: EncodedData) -> str | None:
        """Why the tokens of the data are not known to be those of the server; None where they are.

        A tokenizer that nobody named for this server must count its longest prompt as the server does.
        """
        name = data.tokenizer_name
        if self._config.tokenizer is not None or not data.prompts:
            return None
        if name not in self._disagreement:
            longest = max(data.prompts, key=lambda prompt: len(prompt.tokens))
            [[told]] = self._ready().answers([_messages(longest)], SamplingConfig(max_new_tokens=1))
            ours, theirs = len(longest.tokens), told.prompt_tokens
            self._disagreement[name] = None if ours == theirs else (
                f"the tokenizer of {name} counts {ours} tokens where the server counts "
                f"{'none' if theirs is None else theirs}. Name its own: --tokenizer"
            )  # fmt: skip
        return self._disagreement[name]

    def _answer_key(self, chat: list[dict[str, Any]], number: int, settings: SamplingConfig) -> bytes:
        asked = settings.model_dump(exclude=without_say(settings))
        return self._key(b"endpoint answer ", [asked, number, chat])

    def _score_key(self, sequence: Sequence) -> bytes:
        at: list[int] = np.flatnonzero(sequence.loss_mask).tolist()
        return self._key(b"endpoint score ", [sequence.input_ids.tolist(), at])

    def _key(self, kind: bytes, content: list[Any]) -> bytes:
        config = self._config
        server = [config.base_url.rstrip("/"), config.model, config.revision]
        return xxhash.xxh3_128_digest(kind + orjson.dumps([server, content], option=orjson.OPT_SORT_KEYS))


def _messages(prompt: FixedPrompt) -> list[dict[str, Any]]:
    """The turns before the answer, without what only training reads: servers refuse keys they do not know."""
    return [{key: v for key, v in message.items() if key != "weight"} for message in prompt.messages]


def _packed_answer(answer: EndpointAnswer) -> bytes:
    return orjson.dumps([answer.text, answer.ended, answer.prompt_tokens, answer.completion_tokens])


def _unpacked_answer(value: bytes) -> EndpointAnswer:
    return EndpointAnswer(0, 0, *_values(value, 4))


def _packed_score(score: EndpointScore) -> bytes:
    return orjson.dumps([score.logprob, score.correct], option=orjson.OPT_SERIALIZE_NUMPY)


def _unpacked_score(value: bytes) -> EndpointScore:
    logprob, correct = _values(value, 2)
    right = None if correct is None else np.array(correct, dtype=np.bool_)
    return EndpointScore(0, np.array(logprob, dtype=np.float64), right)


def _values(value: bytes, count: int) -> list[Any]:
    try:
        values: Any = orjson.loads(value)
    except orjson.JSONDecodeError:
        values = None
    if not isinstance(values, list) or len(values) != count:  # pyright: ignore[reportUnknownArgumentType]
        raise ModelError("the cache is damaged. Empty it: fettle cache prune --unused-days 0")
    return values  # pyright: ignore[reportUnknownVariableType]
