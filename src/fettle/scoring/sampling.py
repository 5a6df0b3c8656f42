"""Answers to many prompts: batches with a key-value cache, each answer with random numbers of its own."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from collections.abc import Sequence as List
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from loguru import logger
from numpy.typing import NDArray

from fettle.config import SamplingConfig
from fettle.data.sequence import Sequence
from fettle.errors import DataError, ModelError
from fettle.scoring.budget import default_generation_tokens, is_out_of_memory
from fettle.scoring.decoder import device_of, undisturbed, unwrapped
from fettle.scoring.engine import score
from fettle.scoring.generate import Continuation, end_tokens, greedy
from fettle.scoring.sampling_steps import AnswerRow, AnswerSteps
from fettle.scoring.stop_text import cut

# More rows are not faster, and each has a row of logits.
MAX_ROWS = 256

Ended = Literal["eos", "stop", "length", "not_finite"]


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """One answer to one prompt."""

    prompt: int
    """Index of the prompt."""
    number: int
    """Which of its answers, from 0."""
    text: str
    """Without special tokens, up to the text that ended it."""
    tokens: list[int]
    """New tokens, T, with the one that ended the answer."""
    ended: Ended
    """By a token that ends turns, by a stop text, by the limit (or the context), or by logits that were
    not finite: nothing that follows from them is an answer."""
    entropy: NDArray[np.float64] = field(repr=False)
    """-Σ p log p in nats of the distribution each token came from, [T], at temperature 1 and before
    top_p. Over sampled answers its mean is the Rao-Blackwell estimate of entropy."""
    logprob: NDArray[np.float64] | None = field(default=None, repr=False)
    """Log-probability of each token in nats, [T], at temperature 1 and before top_p, whatever the
    answer was drawn with; None where not asked for. Its negative is the surprisal: unlike `entropy` a
    biased estimate of entropy as soon as temperature is not 1 or top_p below 1."""

    @property
    def length(self) -> int:
        """In tokens."""
        return len(self.tokens)

    @property
    def reason(self) -> str | None:
        """Why it is no answer; None where it is one."""
        return "the model's logits were not finite" if self.ended == "not_finite" else None


def sample(
    model: Any,
    tokenizer: Any,
    prompts: Iterable[List[int]],
    settings: SamplingConfig,
    *,
    ends: Collection[int] = (),
    batch_tokens: int | None = None,
) -> list[list[Answer]]:
    """`settings.n` answers to each prompt, in the order of the prompts. See `sample_batches`."""
    prompts = list(prompts)
    answers: list[list[Answer]] = [[] for _ in prompts]
    for batch in sample_batches(model, tokenizer, prompts, settings, ends=ends, batch_tokens=batch_tokens):
        for answer in batch:
            answers[answer.prompt].append(answer)
    return [sorted(found, key=lambda answer: answer.number) for found in answers]


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Iterable[List[int]],
    *,
    max_new_tokens: int,
    ends: Collection[int] = (),
) -> list[Continuation]:
    """Greedy continuations of token prompts, in their order, each with the time it took.

    See `sample_batches`.
    """
    prompts = list(prompts)
    found = [Continuation([], ended=False, seconds=0.0)] * len(prompts)
    settings = SamplingConfig(max_new_tokens=max_new_tokens)
    began = time.perf_counter()
    for batch in sample_batches(model, tokenizer, prompts, settings, ends=ends):
        # A batch goes on until its longest answer ends.
        seconds = (time.perf_counter() - began) / max(1, *(len(answer.tokens) for answer in batch))
        for answer in batch:
            ended = answer.ended == "eos"
            found[answer.prompt] = Continuation(answer.tokens, ended, seconds * len(answer.tokens))
        began = time.perf_counter()
    return found


def sample_batches(
    model: Any,
    tokenizer: Any,
    prompts: Iterable[List[int]],
    settings: SamplingConfig,
    *,
    ends: Collection[int] = (),
    batch_tokens: int | None = None,
    wanted: List[Collection[int]] | None = None,
) -> Iterator[list[Answer]]:
    """Answers as they are done, batch by batch, the longest prompts first.

    `ends` are tokens that end a turn in the data; those of model and tokenizer are known. `batch_tokens`
    bounds the rows of a batch times their prompt and answer; `wanted` are the numbers of each prompt's
    answers that are wanted, by default all. An answer depends on the model, its prompt,
    the settings and its number; in half precision also, through rounding, on what stands beside it.
    The mode of every module and all random state are left as they were.

    Raises DataError for an empty prompt, ModelError where one answer alone exceeds the memory.
    """
    stops = end_tokens(model, tokenizer, ends)
    budget = batch_tokens or default_generation_tokens(model)
    prompts = list(prompts)
    waiting = _rows(model, prompts, settings, wanted or [range(settings.n)] * len(prompts))
    while waiting:
        batch = waiting[: _take(waiting, budget)]
        try:
            answers = _run(model, tokenizer, batch, settings, stops)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            budget = _smaller(batch, error)
            continue
        waiting = waiting[len(batch) :]
        yield answers


def _rows(
    model: Any, prompts: list[List[int]], settings: SamplingConfig, wanted: List[Collection[int]]
) -> list[AnswerRow]:
    """Every answer to be generated, longest prompt first, those of one prompt side by side."""
    context: Any = getattr(unwrapped(model).config.get_text_config(), "max_position_embeddings", None)
    rows: list[AnswerRow] = []
    for i, ids in enumerate(prompts):
        if not len(ids):
            raise DataError(f"prompt {i} has no tokens, so nothing can follow it")
        left = context - len(ids) if isinstance(context, int) else settings.max_new_tokens
        room = max(0, min(settings.max_new_tokens, left))
        rows += [AnswerRow(i, number, ids, room) for number in wanted[i]]
    return sorted(rows, key=lambda row: (-len(row.ids), row.prompt))


def _take(rows: list[AnswerRow], budget: int) -> int:
    """How many of the first rows run together; all have room for as many tokens.

    A row whose room is used up would go on beside the others, to positions the model does not know.
    """
    width = len(rows[0].ids) + rows[0].room
    most = min(MAX_ROWS, max(1, budget // width))
    alike = next((i for i, row in enumerate(rows) if row.room != rows[0].room), len(rows))
    return min(most, alike)


def _smaller(batch: list[AnswerRow], error: RuntimeError) -> int:
    """The budget of half of what did not fit."""
    width = len(batch[0].ids) + batch[0].room
    if len(batch) == 1:
        raise ModelError(
            f"prompt {batch[0].prompt} of {len(batch[0].ids)} tokens and {batch[0].room} new ones do not fit "
            "into memory beside the model, even by themselves. Lower max_new_tokens, or load the model in "
            "half precision."
        ) from error
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(batch) // 2
    logger.warning("out of memory: {} answers at once from here on", half)
    return half * width


def _run(
    model: Any, tokenizer: Any, batch: list[AnswerRow], settings: SamplingConfig, stops: set[int]
) -> list[Answer]:
    room = batch[0].room
    if room == 0:
        empty = np.zeros(0, dtype=np.float64)
        none = empty if settings.logprobs else None
        return [Answer(row.prompt, row.number, "", [], "length", empty, none) for row in batch]
    width = max(len(row.ids) for row in batch)
    ids_BT = torch.zeros(len(batch), width, dtype=torch.long)
    mask_BT = torch.zeros_like(ids_BT)
    for i, row in enumerate(batch):
        ids_BT[i, width - len(row.ids) :] = torch.as_tensor(list(row.ids))
        mask_BT[i, width - len(row.ids) :] = 1
    with undisturbed(model):
        steps = AnswerSteps(batch, width, settings, tokenizer, device_of(model))
        hooks: dict[str, Any] = {"logits_processor": [steps.choose], "stopping_criteria": [steps.finished]}
        output_BT = greedy(model, tokenizer, ids_BT, mask_BT, room, stops, **hooks)
        entropy_BT = steps.entropy.cpu().double().numpy()
        rows = zip(batch, output_BT[:, width:].tolist(), entropy_BT, steps.stopped_after, strict=True)
        answers = [_answer(tokenizer, settings, stops, *row) for row in rows]
        return _scored(model, batch, answers) if settings.logprobs else answers


def _answer(
    tokenizer: Any,
    settings: SamplingConfig,
    stops: set[int],
    row: AnswerRow,
    new: list[int],
    entropy_T: NDArray[np.float64],
    stopped_after: int | None,
) -> Answer:
    """What one row says, up to whatever ended it first."""
    broken: list[int] = np.flatnonzero(np.isnan(entropy_T[: len(new)])).tolist()
    turn_ends = [i + 1 for i, token in enumerate(new) if token in stops]
    # The limit comes last: what ended at the last token ended by itself.
    found: dict[Ended, int | None] = {
        "not_finite": next(iter(broken), None),
        "eos": next(iter(turn_ends), None),
        "stop": stopped_after,
        "length": len(new),
    }
    reached: dict[Ended, int] = {why: at for why, at in found.items() if at is not None}
    ended = min(reached, key=lambda why: reached[why])
    count = reached[ended]
    tokens = new[:count]
    said = tokens[:-1] if ended == "eos" else tokens
    text = tokenizer.decode(said, skip_special_tokens=True)
    if ended == "stop":
        text = cut(text, settings.stop, include=settings.include_stop)
    return Answer(row.prompt, row.number, text, tokens, ended, entropy_T[:count].copy())


def _scored(model: Any, batch: list[AnswerRow], answers: list[Answer]) -> list[Answer]:
    """With log-probabilities of one teacher-forced pass over prompt and answer."""
    sequences = [
        Sequence([*row.ids, *answer.tokens], [0] * len(row.ids) + [1] * len(answer.tokens))
        for row, answer in zip(batch, answers, strict=True)
    ]
    scores = score(model, sequences)
    parts = np.split(scores.logprob, scores.offsets[1:-1])
    return [replace(answer, logprob=part) for answer, part in zip(answers, parts, strict=True)]
