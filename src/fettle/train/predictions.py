"""Fixed held-out prompts, answered again and again while the model learns."""

from __future__ import annotations

from collections.abc import Sequence as Collection
from typing import TYPE_CHECKING, Any, Protocol

from fettle.config import PredictionsConfig
from fettle.data import choose_indices
from fettle.metrics import character_error_rate, length_ratio, text_match, word_overlap
from fettle.train.answer_format import AnswerFormat
from fettle.train.evaluation import FixedEvalSet
from fettle.train.fixed_prompt import FixedPrompt, fixed_prompts

if TYPE_CHECKING:
    from fettle.scoring.generate import Continuation


class Sample(Protocol):
    """What answers: greedy continuations of token prompts. `ends` are tokens that end a turn in the data."""

    def __call__(
        self, prompts: Collection[Collection[int]], *, max_new_tokens: int, ends: Collection[int]
    ) -> list[Continuation] | None: ...


class Predictions:
    """Which prompts, when, and what is written down of each answer."""

    def __init__(
        self, eval_set: FixedEvalSet, tokenizer: Any, config: PredictionsConfig, *, seed: int
    ) -> None:
        asked = [prompt for prompt in fixed_prompts(eval_set) if prompt is not None]
        self.prompts = [asked[k] for k in choose_indices(len(asked), config.samples, seed)]
        self._tokenizer = tokenizer
        self._every = config.every
        self._max_new_tokens = config.max_new_tokens
        self._format = AnswerFormat(config)

    def due(self, step: int, *, evaluated: bool, epoch_ends: bool, last: bool) -> bool:
        """Whether the prompts are answered after this step."""
        if not self.prompts:
            return False
        if isinstance(self._every, int):
            return last or step % self._every == 0
        return last or (evaluated if self._every == "eval" else epoch_ends)

    def rows(self, sample: Sample) -> list[dict[str, Any]]:
        """Have every prompt answered; one row each, without step and epoch."""
        ends = [prompt.truth_tokens[-1] for prompt in self.prompts]
        answers = sample(
            [prompt.tokens for prompt in self.prompts], max_new_tokens=self._max_new_tokens, ends=ends
        )
        if answers is None:
            return []
        pairs = zip(self.prompts, answers, strict=True)
        return [self._row(index, prompt, answer) for index, (prompt, answer) in enumerate(pairs)]

    def _row(self, index: int, prompt: FixedPrompt, answer: Continuation) -> dict[str, Any]:
        truth, said = self._text(prompt.truth_tokens), self._text(answer.tokens)
        # White space around an answer is the template's affair.
        measured = said.strip(), truth.strip()
        return {
            "sample_index": index,
            "source_line": prompt.example.line,
            "prompt_id": prompt.id,
            "pattern": prompt.pattern,
            "prompt": prompt.messages,
            "ground_truth": truth,
            "prediction": said,
            "ended": answer.ended,
            "prompt_tokens": len(prompt.tokens),
            "completion_tokens": len(answer.tokens),
            "latency_ms": 1000 * answer.seconds,
            "exact_match": text_match(*measured),
            "character_error_rate": character_error_rate(*measured),
            "length_ratio": length_ratio(*measured),
            "word_overlap": word_overlap(*measured),
            **self._format.check(said.strip()),
        }

    def _text(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True)
