"""Scores and answers of one set of weights after another; what is known is not run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Collection

import orjson

from fettle.config import EvaluationConfig, SamplingConfig
from fettle.data.sequence import Sequence
from fettle.errors import ModelError
from fettle.evaluation.answer_bytes import answer_key, unpack_answer
from fettle.evaluation.cache import ScoreCache
from fettle.evaluation.loaded_model import LoadedModel
from fettle.evaluation.subject import Subject
from fettle.evaluation.token_scores import sample_key, unpack
from fettle.evaluation.weights import model_digest
from fettle.evaluation.work import AnswerWork, Prompts, ScoreWork, Work
from fettle.scoring import Answer
from fettle.scoring.scores import Scores

# Kept as soon as they are there: a process that is killed loses no more than this.
KEPT_TOKENS = 65_536
PROMPTS_AT_ONCE = 1_024
OnProgress = Callable[[int, int], None]


class CachedModel:
    """Runs by content: of the weights, the tokens and the loss mask, the type and the attention."""

    def __init__(self, cache: ScoreCache, config: EvaluationConfig) -> None:
        self.cache = cache
        self.model = LoadedModel(config.dtype, config.device)
        self.known_weights: dict[str, str] = {}
        """Content of the weights of each subject so far."""
        self.config = config

    def score(
        self, subject: Subject, sequences: Collection[Sequence], on_tokens: OnProgress | None = None
    ) -> tuple[Scores, int]:
        """Scores of all sequences in their order, and how many of them were run.

        `on_tokens` is told the tokens that were run and those to run. Raises ModelError, DataError.
        """
        keys = self._score_keys(subject, sequences)
        known = self.cache.get(keys)
        works = self._score_works(subject, sequences, keys, known)
        self._run(works, known, on_tokens)
        scores = unpack([known[key] for key in keys], sequences)
        if scores is None:
            raise self._damaged()
        return scores, sum(len(work.keys) for work in works)

    def answer(
        self,
        subject: Subject,
        asked: Prompts,
        settings: SamplingConfig,
        on_answers: OnProgress | None = None,
    ) -> tuple[list[list[Answer]], int]:
        """The answers to every prompt in their order, and how many of them were generated.

        `on_answers` is told the answers that were generated and those to generate. Raises ModelError,
        DataError.
        """
        keys = self._answer_keys(subject, asked, settings)
        known = self.cache.get([key for of_prompt in keys for key in of_prompt])
        works = self._answer_works(subject, asked, settings, keys, known)
        self._run(works, known, on_answers)
        try:
            answers = [[unpack_answer(known[k], i) for k in keys_of] for i, keys_of in enumerate(keys)]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise self._damaged() from error
        return answers, sum(work.size for work in works)

    def missing_scores(self, subject: Subject, sequences: Collection[Sequence]) -> list[ScoreWork]:
        """What has to be run for `score`."""
        keys = self._score_keys(subject, sequences)
        return self._score_works(subject, sequences, keys, self.cache.get(keys))

    def missing_answers(self, subject: Subject, asked: Prompts, settings: SamplingConfig) -> list[AnswerWork]:
        """What has to be run for `answer`."""
        keys = self._answer_keys(subject, asked, settings)
        known = self.cache.get([key for of_prompt in keys for key in of_prompt])
        return self._answer_works(subject, asked, settings, keys, known)

    def weights(self, subject: Subject) -> str:
        """Content of its weights, those of base and adapter apart. Raises ModelError."""
        digest = model_digest(subject.model, subject.adapter, self.cache)
        self.known_weights[subject.name] = digest
        return digest

    def _run(
        self, works: Collection[Work], known: dict[bytes, bytes], on_progress: OnProgress | None
    ) -> None:
        total, done = sum(work.size for work in works), 0
        for work in works:
            for items in work.run(self.model):
                self.cache.put(items)
                known.update(items)
                done += work.size if isinstance(work, ScoreWork) else len(items)
                if on_progress is not None:
                    on_progress(done, total)

    def _score_keys(self, subject: Subject, sequences: Collection[Sequence]) -> list[bytes]:
        weights = self.weights(subject)
        return [sample_key(sequence, weights, self.model.precision) for sequence in sequences]

    def _score_works(
        self, subject: Subject, sequences: Collection[Sequence], keys: list[bytes], known: dict[bytes, bytes]
    ) -> list[ScoreWork]:
        missing = list({key: i for i, key in enumerate(keys) if key not in known}.values())
        limit = self.config.batch_tokens
        return [
            ScoreWork(subject, [sequences[i] for i in part], [keys[i] for i in part], limit)
            for part in _parts(sequences, missing)
        ]

    def _answer_keys(self, subject: Subject, asked: Prompts, settings: SamplingConfig) -> list[list[bytes]]:
        """Of each prompt, of each of its answers."""
        fixed = (settings, asked.ends, self.weights(subject), self.model.precision, asked.tokenizer_digest)
        return [
            [answer_key(prompt, number, *fixed) for number in range(settings.n)] for prompt in asked.tokens
        ]

    def _answer_works(
        self,
        subject: Subject,
        asked: Prompts,
        settings: SamplingConfig,
        keys: list[list[bytes]],
        known: dict[bytes, bytes],
    ) -> list[AnswerWork]:
        # A prompt that stands in the data twice has the same answers.
        first = {of_prompt[0]: i for i, of_prompt in reversed(list(enumerate(keys)))}
        missing = {
            i: wanted
            for i, of_prompt in enumerate(keys)
            if first[of_prompt[0]] == i
            and (wanted := {number: key for number, key in enumerate(of_prompt) if key not in known})
        }
        longest_first = sorted(missing, key=lambda i: -len(asked.tokens[i]))
        return [
            AnswerWork(
                subject,
                asked.tokenizer,
                [asked.tokens[i] for i in part],
                [missing[i] for i in part],
                settings,
                asked.ends,
                self.config.batch_tokens,
            )
            for start in range(0, len(longest_first), PROMPTS_AT_ONCE)
            if (part := longest_first[start : start + PROMPTS_AT_ONCE])
        ]

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
