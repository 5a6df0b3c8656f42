"""A piece of work for a model: here or on another machine, it gives the same bytes under the same keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fettle.config import SamplingConfig
from fettle.data.sequence import Sequence as TokenSequence
from fettle.evaluation.answer_bytes import pack_answer
from fettle.evaluation.loaded_model import LoadedModel
from fettle.evaluation.subject import Subject
from fettle.evaluation.token_scores import pack
from fettle.scoring import sample_batches, score
from fettle.train.model import load_tokenizer

Items = list[tuple[bytes, bytes]]
"""Keys and values for the cache."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """What a model is asked, as tokens of one tokenizer."""

    tokens: Sequence[list[int]]
    ends: Sequence[int]
    """Tokens that end a turn, beside those that the model itself names."""
    tokenizer: str
    """Hub id or folder."""
    tokenizer_digest: str
    """Of what turns tokens into text."""


@dataclass(frozen=True, slots=True)
class ScoreWork:
    """Sequences to score."""

    subject: Subject
    sequences: Sequence[TokenSequence]
    keys: Sequence[bytes]
    batch_tokens: int | None

    @property
    def size(self) -> int:
        """Tokens."""
        return sum(len(sequence) for sequence in self.sequences)

    def run(self, model: LoadedModel) -> Iterator[Items]:
        """All at once."""
        scores = score(model.use(self.subject), self.sequences, batch_tokens=self.batch_tokens)
        yield [(key, pack(scores, place)) for place, key in enumerate(self.keys)]


@dataclass(frozen=True, slots=True)
class AnswerWork:
    """Prompts to answer."""

    subject: Subject
    tokenizer: str
    prompts: Sequence[list[int]]
    wanted: Sequence[dict[int, bytes]]
    """Of each prompt the numbers of the answers wanted, with their keys."""
    settings: SamplingConfig
    ends: Sequence[int]
    batch_tokens: int | None

    @property
    def size(self) -> int:
        """Answers."""
        return sum(len(numbers) for numbers in self.wanted)

    def run(self, model: LoadedModel) -> Iterator[Items]:
        """As the batches are done."""
        batches = sample_batches(
            model.use(self.subject),
            load_tokenizer(self.tokenizer),
            self.prompts,
            self.settings,
            ends=self.ends,
            batch_tokens=self.batch_tokens,
            wanted=[list(numbers) for numbers in self.wanted],
        )
        for batch in batches:
            yield [(self.wanted[answer.prompt][answer.number], pack_answer(answer)) for answer in batch]


Work = ScoreWork | AnswerWork
