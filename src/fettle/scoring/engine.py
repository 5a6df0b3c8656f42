"""The teacher-forced engine: one forward pass, every number per completion token."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Collection
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fettle.data.sequence import Sequence
from fettle.errors import DataError
from fettle.scoring.head import TokenStatistics, locate_head, logit_statistics, token_statistics, unwrapped
from fettle.scoring.layout import Group, share_prefixes
from fettle.scoring.loss import fused_cross_entropy
from fettle.scoring.route import Route, choose_route, device_of, hidden_states, lay_out, plain_logits
from fettle.scoring.scores import Scores, collect

CPU_SCRATCH_BYTES = 40 << 20
GPU_BATCH_TOKENS = 16_384


def score(
    model: Any,
    sequences: Collection[Sequence],
    *,
    batch_tokens: int | None = None,
    progress: bool = False,
) -> Scores:
    """Score completions by teacher forcing; results are in the order of the input.

    `model` is a causal LM of Transformers, or a PeftModel around one. `batch_tokens`
    bounds the tokens of one forward pass; by default it follows from the model's size.
    Products of the head and their sums are float32, sums over tokens float64. Train
    mode and random state are left as they were. Raises DataError for a sequence
    longer than the model's context or a token id outside its vocabulary.
    """
    sequences = list(sequences)
    _check(model, sequences)
    offsets = np.concatenate([[0], np.cumsum([s.completion_tokens for s in sequences], dtype=np.int64)])
    total = int(offsets[-1])
    columns = (np.zeros(total), np.zeros(total, dtype=np.int64), np.zeros(total), np.zeros(total))
    targets = np.zeros(total, dtype=np.int64)
    for sequence, start, stop in zip(sequences, offsets[:-1], offsets[1:], strict=True):
        targets[start:stop] = sequence.input_ids[sequence.loss_mask]
    with _undisturbed(model):
        route = choose_route(model)
        batches = plan_batches(sequences, route, batch_tokens or default_batch_tokens(model))
        for batch in _tracked(batches, sequences, enabled=progress):
            for groups, statistics in _score_batch(model, sequences, batch, route):
                _store(columns, offsets, groups, statistics)
    return collect(offsets, targets, *columns)


def completion_loss(model: Any, sequences: Collection[Sequence]) -> Tensor:
    """Summed cross-entropy of the completion tokens in nats, differentiable; the head runs there only."""
    route = choose_route(model)
    groups = [Group((i,)) for i in range(len(sequences))]
    layout = lay_out(list(sequences), groups, route, device_of(model))
    head = locate_head(model) if route.tiled_head else None
    if head is None:
        logits_PV = plain_logits(model, layout)
        return torch.nn.functional.cross_entropy(logits_PV.float(), layout.targets_P, reduction="sum")
    return fused_cross_entropy(hidden_states(model, layout), head, layout.targets_P)


def default_batch_tokens(model: Any) -> int:
    """Tokens of one forward pass: what fits a fixed scratch on a CPU, a fixed number on a GPU."""
    if device_of(model).type != "cpu":
        return GPU_BATCH_TOKENS
    config: Any = unwrapped(model).config.get_text_config()
    hidden = int(config.hidden_size)
    inner = int(getattr(config, "intermediate_size", None) or 4 * hidden)
    # Live at once in a layer: residual, norm, q, k, v, attention (about 8 hidden) and the gated MLP.
    per_token = 4 * (8 * hidden + 3 * inner)
    return int(np.clip(CPU_SCRATCH_BYTES // per_token, 512, 4096))


def plan_batches(sequences: Collection[Sequence], route: Route, budget: int) -> list[list[Group]]:
    """Groups of sequences that fill forward passes up to `budget` tokens, longest first.

    A padded pass counts its padding; a packed one counts a shared prefix once.
    """
    scored = [i for i, s in enumerate(sequences) if s.loss_mask.any()]
    if route.layout == "padded":
        by_length = sorted(scored, key=lambda i: -len(sequences[i]))
        return _fill([Group((i,)) for i in by_length], lambda batch: len(batch), sequences, budget)
    shared = share_prefixes([sequences[i] for i in scored])
    pieces: list[Group] = []
    for group in shared:
        members = [scored[i] for i in group.members]
        pieces += _cut(Group(tuple(members), group.shared), sequences, budget)
    pieces.sort(key=lambda group: -_tokens(group, sequences))
    return _fill(pieces, None, sequences, budget)


def _fill(groups: list[Group], rows: Any, sequences: Collection[Sequence], budget: int) -> list[list[Group]]:
    batches: list[list[Group]] = []
    used = 0
    for group in groups:
        if rows is not None and batches:
            # Longest first: the first row of a batch is its width.
            used = (rows(batches[-1]) + 1) * len(sequences[batches[-1][0].members[0]])
        else:
            used += _tokens(group, sequences)
        if not batches or used > budget:
            batches.append([])
            used = _tokens(group, sequences)
        batches[-1].append(group)
    return batches


def _tokens(group: Group, sequences: Collection[Sequence]) -> int:
    return group.shared + sum(len(sequences[i]) - group.shared for i in group.members)


def _cut(group: Group, sequences: Collection[Sequence], budget: int) -> Iterator[Group]:
    """A group as pieces within the budget, each with the shared prefix once."""
    members: list[int] = []
    used = group.shared
    for i in sorted(group.members, key=lambda i: -len(sequences[i])):
        own = len(sequences[i]) - group.shared
        if members and used + own > budget:
            yield Group(tuple(members), group.shared if len(members) > 1 else 0)
            members, used = [], group.shared
        members.append(i)
        used += own
    if members:
        yield Group(tuple(members), group.shared if len(members) > 1 else 0)


def _score_batch(
    model: Any, sequences: list[Sequence], groups: list[Group], route: Route
) -> Iterator[tuple[list[Group], TokenStatistics]]:
    """One forward pass; out of memory splits the batch and goes on with its halves."""
    try:
        layout = lay_out(sequences, groups, route, device_of(model))
        head = locate_head(model) if route.tiled_head else None
        if head is None:
            statistics = logit_statistics(plain_logits(model, layout), layout.targets_P)
        else:
            statistics = token_statistics(hidden_states(model, layout), head, layout.targets_P)
    except torch.OutOfMemoryError:
        halves = _halves(groups)
        if halves is None:
            raise
    else:
        yield groups, statistics
        return
    torch.cuda.empty_cache()
    for half in halves:
        yield from _score_batch(model, sequences, half, route)


def _halves(groups: list[Group]) -> tuple[list[Group], list[Group]] | None:
    if len(groups) > 1:
        middle = len(groups) // 2
        return groups[:middle], groups[middle:]
    members, shared = groups[0].members, groups[0].shared
    if len(members) == 1:
        return None
    middle = len(members) // 2
    return [Group(members[:middle], shared)], [Group(members[middle:], shared)]


def _store(columns: tuple[Any, ...], offsets: Any, groups: list[Group], statistics: TokenStatistics) -> None:
    arrays = [column.cpu().numpy() for column in statistics]
    at = 0
    for member in (i for group in groups for i in group.members):
        start, stop = offsets[member], offsets[member + 1]
        for column, array in zip(columns, arrays, strict=True):
            column[start:stop] = array[at : at + stop - start]
        at += stop - start


@contextmanager
def _undisturbed(model: Any) -> Iterator[None]:
    """Evaluation mode without gradients; modes and random state are as before after it."""
    modes = [(module, module.training) for module in model.modules()]
    cpu_state = torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        torch.set_rng_state(cpu_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)


def _tracked(
    batches: list[list[Group]], sequences: list[Sequence], *, enabled: bool
) -> Iterator[list[Group]]:
    if not enabled:
        yield from batches
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("scoring", total=sum(_tokens(g, sequences) for batch in batches for g in batch))
        for batch in batches:
            yield batch
            bar.advance(task, sum(_tokens(group, sequences) for group in batch))


def _check(model: Any, sequences: list[Sequence]) -> None:
    base = unwrapped(model)
    config: Any = base.config.get_text_config()
    context = getattr(config, "max_position_embeddings", None)
    vocabulary = base.get_input_embeddings().weight.shape[0]
    for i, sequence in enumerate(sequences):
        if context is not None and len(sequence) > context:
            raise DataError(
                f"sequence {i} has {len(sequence)} tokens, more than the model's context of {context}. "
                "Shorten it, or lower training.max_seq_length."
            )
        if sequence.input_ids.min() < 0 or sequence.input_ids.max() >= vocabulary:
            raise DataError(
                f"sequence {i} holds token {int(sequence.input_ids.max())}, outside the model's vocabulary of "
                f"{vocabulary}. Does the tokenizer belong to this model?"
            )


def noise_floor(model: Any, sequences: Collection[Sequence]) -> float | None:
    """Largest difference of a sample's mean cross-entropy between two batchings of the same weights, in nats.

    Differences between checkpoints below it mean nothing. None without tokens.
    """
    one = score(model, sequences, batch_tokens=1)
    many = score(model, sequences)
    measured = one.tokens > 0
    if not measured.any():
        return None
    difference = np.abs(one.cross_entropy_sum - many.cross_entropy_sum)[measured]
    return float((difference / one.tokens[measured]).max())
