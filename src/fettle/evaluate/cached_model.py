"""Scores and answers of one set of weights after another; what is known is not run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Collection

import orjson

from fettle.config import EvaluationConfig, SamplingConfig
from fettle.data.sequence import Sequence
from fettle.errors import ModelError
from fettle.evaluate.answer_bytes import answer_key, pack_answer, unpack_answer
from fettle.evaluate.cache import ScoreCache
from fettle.evaluate.loaded_model import LoadedModel
from fettle.evaluate.samples import EncodedData
from fettle.evaluate.subject import Subject
from fettle.evaluate.token_scores import pack, sample_key, unpack
from fettle.evaluate.weights import local_folder, weights_digest
from fettle.scoring import Answer, sample_batches, score
from fettle.scoring.scores import Scores

# Kept as soon as they are there: a process that is killed loses no more than this.
KEPT_TOKENS = 65_536
OnProgress = Callable[[int, int], None]


class CachedModel:
    """Runs by content: of the weights, the tokens and the loss mask, the type and the attention."""

    def __init__(self, cache: ScoreCache, config: EvaluationConfig) -> None:
        self.cache = cache
        self.model = LoadedModel(config.dtype, config.device)
        self.known_weights: dict[str, str] = {}
        """Content of the weights of each subject so far."""
        self._batch_tokens = config.batch_tokens

    def score(
        self, subject: Subject, sequences: Collection[Sequence], on_tokens: OnProgress | None = None
    ) -> tuple[Scores, int]:
        """Scores of all sequences in their order, and how many of them were run.

        `on_tokens` is told the tokens that were run and those to run. Raises ModelError, DataError.
        """
        weights = self.weights(subject)
        keys = [sample_key(sequence, weights, self.model.precision) for sequence in sequences]
        known = self.cache.get(keys)
        missing = list({key: i for i, key in enumerate(keys) if key not in known}.values())
        total, done = sum(len(sequences[i]) for i in missing), 0
        for part in _parts(sequences, missing):
            scores = score(
                self.model.use(subject), [sequences[i] for i in part], batch_tokens=self._batch_tokens
            )
            fresh = {keys[i]: pack(scores, place) for place, i in enumerate(part)}
            self.cache.put(fresh.items())
            known |= fresh
            done += sum(len(sequences[i]) for i in part)
            if on_tokens is not None:
                on_tokens(done, total)
        scores = unpack([known[key] for key in keys], sequences)
        if scores is None:
            raise self._damaged()
        return scores, len(missing)

    def answer(
        self,
        subject: Subject,
        data: EncodedData,
        settings: SamplingConfig,
        on_answers: OnProgress | None = None,
    ) -> tuple[list[list[Answer]], int]:
        """The answers to every prompt of the data in their order, and how many of them were generated.

        `on_answers` is told the answers that were generated and those to generate. Raises ModelError,
        DataError.
        """
        weights, precision = self.weights(subject), self.model.precision
        prompts = [prompt.tokens for prompt in data.prompts]
        keys = [
            [
                answer_key(prompt, number, settings, data.ends, weights, precision, data.tokenizer_digest)
                for number in range(settings.n)
            ]
            for prompt in prompts
        ]
        known = self.cache.get([key for of_prompt in keys for key in of_prompt])
        # A prompt that stands in the data twice has the same answers.
        first = {of_prompt[0]: i for i, of_prompt in reversed(list(enumerate(keys)))}
        wanted = {
            i: numbers
            for i, of_prompt in enumerate(keys)
            if first[of_prompt[0]] == i
            and (numbers := [number for number, key in enumerate(of_prompt) if key not in known])
        }
        total, done = sum(map(len, wanted.values())), 0
        places = list(wanted)
        if places:
            batches = sample_batches(
                self.model.use(subject),
                data.tokenizer,
                [prompts[i] for i in places],
                settings,
                ends=data.ends,
                batch_tokens=self._batch_tokens,
                wanted=list(wanted.values()),
            )
            for batch in batches:
                fresh = {keys[places[a.prompt]][a.number]: pack_answer(a) for a in batch}
                self.cache.put(fresh.items())
                known |= fresh
                done += len(batch)
                if on_answers is not None:
                    on_answers(done, total)
        try:
            answers = [[unpack_answer(known[k], i) for k in keys_of] for i, keys_of in enumerate(keys)]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise self._damaged() from error
        return answers, total

    def weights(self, subject: Subject) -> str:
        """Content of its weights, those of base and adapter apart. Raises ModelError."""
        parts = [local_folder(subject.model), subject.adapter]
        digest = " ".join("-" if part is None else weights_digest(part, self.cache) for part in parts)
        self.known_weights[subject.name] = digest
        return digest

    def _damaged(self) -> ModelError:
        return ModelError(f"{self.cache.path} is damaged. Empty it: fettle cache prune --unused-days 0")


def _parts(sequences: Collection[Sequence], missing: list[int]) -> Iterator[list[int]]:
    """Samples to run, long ones first, in parts of so many tokens."""
    part: list[int] = []
    tokens = 0
    for i in sorted(missing, key=lambda i: -len(sequences[i])):
        part.append(i)
        tokens += len(sequences[i])
        if tokens >= KEPT_TOKENS:
            yield part
            part, tokens = [], 0
    if part:
        yield part
