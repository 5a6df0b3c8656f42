"""Exact match of the text: what greedy decoding would say, after a normaliser.

A sample whose argmax is right at every position says the completion itself, so only
the others are generated, from their first wrong token on.
"""

from __future__ import annotations

from collections.abc import Sequence as Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fettle.data.sequence import Sequence
from fettle.metrics.normalise import Normaliser, normaliser
from fettle.scoring.decoder import undisturbed
from fettle.scoring.engine import score
from fettle.scoring.generate import end_tokens, greedy
from fettle.scoring.scores import Scores


@dataclass(frozen=True, slots=True, eq=False)
class TextMatches:
    """Text-level exact match of N samples, in the order of the input."""

    match: NDArray[np.bool_]
    """Whether what greedy decoding says equals the completion after the normaliser, in every turn, [N]."""
    scorable: NDArray[np.bool_]
    """False where the sample has no completion, or the normaliser finds nothing in it, [N]."""
    generated: NDArray[np.bool_]
    """Whether anything had to be generated, [N]."""
    texts: list[list[str]]
    """What the model says in each turn that counts, [N][turns]."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """Consecutive completion tokens [start, stop) of one sample, and where greedy decoding leaves them."""

    sample: int
    start: int
    stop: int
    divergence: int | None
    """First position whose argmax is another token; None where all are right."""
    instead: int = -1
    """That argmax."""


def text_exact_match(
    model: Any,
    tokenizer: Any,
    sequences: Collection[Sequence],
    normalise: Normaliser | str = "strip",
    *,
    scores: Scores | None = None,
    batch_tokens: int = 4096,
    max_new_tokens: int | None = None,
) -> TextMatches:
    """Compare what greedy decoding says with the completions, as text.

    Each run of completion tokens is a turn; earlier turns stand in the context as
    they are in the data. `scores` of the same sequences are reused where given.
    Generation ends at an end-of-turn token or after `max_new_tokens`, by default
    twice what the completion has left, plus 16. Modes and random state are restored.
    """
    apply = normaliser(normalise) if isinstance(normalise, str) else normalise
    sequences = list(sequences)
    scores = score(model, sequences) if scores is None else scores
    turns = [turn for i, sequence in enumerate(sequences) for turn in _turns(i, sequence, scores)]
    stops = end_tokens(model, tokenizer, (int(sequences[t.sample].input_ids[t.stop - 1]) for t in turns))
    said: dict[_Turn, NDArray[np.int64]] = {}
    for turn in turns:
        ids = sequences[turn.sample].input_ids
        if turn.divergence is None:
            said[turn] = ids[turn.start : turn.stop]
        elif turn.instead in stops:
            said[turn] = ids[turn.start : turn.divergence]
    pending = [turn for turn in turns if turn not in said]
    with undisturbed(model):
        for batch in _batches(pending, batch_tokens):
            said |= _continue(model, tokenizer, sequences, batch, stops, max_new_tokens)
    return _compare(tokenizer, sequences, turns, said, set(pending), apply)


def _turns(sample: int, sequence: Sequence, scores: Scores) -> list[_Turn]:
    at = np.flatnonzero(sequence.loss_mask)
    if not at.size:
        return []
    predicted = scores.predicted[scores.offsets[sample] : scores.offsets[sample + 1]]
    correct = scores.correct[scores.offsets[sample] : scores.offsets[sample + 1]]
    turns: list[_Turn] = []
    for part in np.split(np.arange(at.size), np.flatnonzero(np.diff(at) > 1) + 1):
        start, stop = int(at[part[0]]), int(at[part[-1]]) + 1
        wrong = part[~correct[part]]
        if wrong.size:
            turns.append(_Turn(sample, start, stop, int(at[wrong[0]]), int(predicted[wrong[0]])))
        else:
            turns.append(_Turn(sample, start, stop, None))
    return turns


def _batches(turns: list[_Turn], budget: int) -> list[list[_Turn]]:
    """Turns of like length side by side, longest first, at most `budget` tokens of context each."""
    batches: list[list[_Turn]] = []
    for turn in sorted(turns, key=lambda turn: -(turn.divergence or 0)):
        if not batches or (len(batches[-1]) + 1) * ((batches[-1][0].divergence or 0) + 1) > budget:
            batches.append([])
        batches[-1].append(turn)
    return batches


def _continue(
    model: Any,
    tokenizer: Any,
    sequences: list[Sequence],
    batch: list[_Turn],
    stops: set[int],
    max_new_tokens: int | None,
) -> dict[_Turn, NDArray[np.int64]]:
    """What the model says in each turn: right tokens, its own first wrong one, and what follows."""
    contexts = [np.append(sequences[t.sample].input_ids[: t.divergence], t.instead) for t in batch]
    width = max(context.size for context in contexts)
    ids_BT = torch.zeros(len(batch), width, dtype=torch.long)
    mask_BT = torch.zeros_like(ids_BT)
    for row, context in enumerate(contexts):
        ids_BT[row, width - context.size :] = torch.from_numpy(context)
        mask_BT[row, width - context.size :] = 1
    rooms = [_room(turn, max_new_tokens) for turn in batch]
    output_BT = greedy(model, tokenizer, ids_BT, mask_BT, max(rooms), stops)
    said: dict[_Turn, NDArray[np.int64]] = {}
    for turn, context, room, new in zip(batch, contexts, rooms, output_BT[:, width:], strict=True):
        new = new[:room]  # whatever its neighbours were allowed
        ends = np.flatnonzero(np.isin(new, sorted(stops)))
        said[turn] = np.concatenate([context[turn.start :], new[: ends[0]] if ends.size else new])
    return said


def _room(turn: _Turn, max_new_tokens: int | None) -> int:
    """Tokens that may follow the first wrong one."""
    left = turn.stop - (turn.divergence or turn.start)
    return 2 * left + 16 if max_new_tokens is None else max_new_tokens


def _compare(
    tokenizer: Any,
    sequences: list[Sequence],
    turns: list[_Turn],
    said: dict[_Turn, NDArray[np.int64]],
    generated: set[_Turn],
    normalise: Normaliser,
) -> TextMatches:
    count = len(sequences)
    match, scorable = np.ones(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
    was_generated = np.zeros(count, dtype=np.bool_)
    texts: list[list[str]] = [[] for _ in sequences]
    unscorable: set[int] = set()
    for turn in turns:
        gold = normalise(_text(tokenizer, sequences[turn.sample].input_ids[turn.start : turn.stop]))
        text = _text(tokenizer, said[turn])
        texts[turn.sample].append(text)
        was_generated[turn.sample] |= turn in generated
        scorable[turn.sample] = True
        if gold is None:
            unscorable.add(turn.sample)
        match[turn.sample] &= gold is not None and normalise(text) == gold
    scorable[sorted(unscorable)] = False
    return TextMatches(match & scorable, scorable, was_generated, texts)


def _text(tokenizer: Any, ids: NDArray[np.int64]) -> str:
    return tokenizer.decode(ids.tolist(), skip_special_tokens=True)
