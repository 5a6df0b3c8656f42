"""The teacher-forced engine: one forward pass, every number per completion token."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Collection
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fettle.data.sequence import Sequence
from fettle.errors import DataError, ModelError
from fettle.scoring.attention import KeyValue
from fettle.scoring.budget import is_out_of_memory
from fettle.scoring.decoder import device_of, undisturbed, unwrapped
from fettle.scoring.forward import (
    hidden_states,
    hidden_statistics,
    lay_out,
    model_logits,
    model_statistics,
    module_logits,
    vocabulary,
)
from fettle.scoring.head import locate_head
from fettle.scoring.loss import fused_cross_entropy
from fettle.scoring.plan import (
    Piece,
    by_length,
    count_tokens,
    length_regimes,
    needed_tokens,
    share_saved,
    shared_pieces,
    take,
    whole_pieces,
)
from fettle.scoring.progress import progress_bar
from fettle.scoring.route import LayoutName, choose_route
from fettle.scoring.scores import Scores, collect, token_positions
from fettle.scoring.statistics import TokenStatistics, joined
from fettle.scoring.token_budget import TokenBudget

# Hidden states wait until the head has enough rows to run at full rate; float32 bytes.
PENDING_BYTES = 8 << 20

# On a GPU padding is cheaper than packing, until packing leaves out this share of the tokens.
WORTH_PACKING = 0.3


def score(
    model: Any,
    sequences: Collection[Sequence],
    *,
    batch_tokens: int | None = None,
    progress: bool = False,
) -> Scores:
    """Score completions by teacher forcing; results are in the order of the input.

    `model` is a causal LM of Transformers, or a PeftModel around one, in any
    precision. `batch_tokens` bounds the tokens of one forward pass, padding
    counted; by default it follows from the model's size. Products of the head and
    their sums are float32, sums over tokens float64. Prompts that begin alike run
    once. The mode of every module and all random state are left as they were.

    Raises DataError for a sequence longer than the model's context or a token id
    outside its vocabulary, ModelError where one sequence alone exceeds the memory.
    """
    sequences = list(sequences)
    _check(model, sequences)
    offsets = np.concatenate([[0], np.cumsum([s.completion_tokens for s in sequences], dtype=np.int64)])
    with undisturbed(model):
        passes = _Passes(model, sequences, batch_tokens)
        with progress_bar("scoring", "tokens", enabled=progress) as show:
            for done in accumulate(passes.run()):
                show(done, passes.total_tokens)
        order, statistics = passes.results()
    at_T = token_positions(offsets, order)
    columns: list[Any] = [np.zeros(int(offsets[-1]), dtype=column.dtype) for column in statistics]
    for column, values in zip(columns, statistics, strict=True):
        column[at_T] = values
    targets = [sequence.input_ids[sequence.loss_mask] for sequence in sequences]
    empty = np.zeros(0, dtype=np.int64)
    return collect(np.concatenate([empty, *targets]), offsets, *columns)


def completion_loss(model: Any, sequences: Collection[Sequence]) -> Tensor:
    """Summed cross-entropy of the completion tokens in nats, differentiable; the head runs there only."""
    # Checkpointed layers run again in the backward pass, when the packing is gone.
    route = choose_route(model, ("padded",) if _recomputes(model) else _layouts(model, 0.0))
    scored = [i for i, sequence in enumerate(sequences) if sequence.loss_mask.any()]
    layout = lay_out(model, sequences, whole_pieces(sequences, scored), route)
    if route.head in ("kept", "full"):
        logits_PV = model_logits(model, layout, route)
    else:
        hidden_PD, _ = hidden_states(model, layout)
        head = locate_head(model)
        if route.head == "tiled" and head is not None:
            return fused_cross_entropy(hidden_PD, head, layout.targets)
        logits_PV = module_logits(model, hidden_PD)
    return cross_entropy(logits_PV.float(), layout.targets, reduction="sum")


def _layouts(model: Any, saved: float) -> tuple[LayoutName, ...]:
    """Layouts to try, fastest first, where sharing prefixes saves a share of the tokens.

    A CPU gains most from packing. On a GPU many small attention calls cost more than
    padding does, until packing leaves out enough.
    """
    packs = device_of(model).type == "cpu" or saved >= WORTH_PACKING
    return ("packed", "padded") if packs else ("padded", "packed")


def _recomputes(model: Any) -> bool:
    return bool(
        model.training and any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
    )


class _Passes:
    """The forward passes of one scoring: what to run, what waits for the head, what came out."""

    def __init__(self, model: Any, sequences: list[Sequence], batch_tokens: int | None) -> None:
        self.model = model
        self.sequences = sequences
        self.budget = TokenBudget(model, batch_tokens)
        scored = [i for i, sequence in enumerate(sequences) if sequence.loss_mask.any()]
        lengths = [needed_tokens(sequences[i]) for i in scored]
        config = unwrapped(model).config.get_text_config()
        regimes = [[scored[i] for i in regime] for regime in length_regimes(config, lengths)]
        self.pieces = [shared_pieces(sequences, regime) for regime in regimes]
        saved = share_saved([piece for pieces in self.pieces for piece in pieces])
        self.route = choose_route(model, _layouts(model, saved))
        if self.route.layout != "packed":
            self.pieces = [by_length(whole_pieces(sequences, regime)) for regime in regimes]
        self.total_tokens = sum(count_tokens(pieces) for pieces in self.pieces)
        self.carried: list[KeyValue] = []
        self.waiting: list[tuple[Tensor, Tensor]] = []
        self.order: list[int] = []
        self.done: list[TokenStatistics] = []

    def run(self) -> Iterator[int]:
        """Run everything; yields the tokens of each pass when it is done."""
        for pieces in self.pieces:
            at = 0
            while at < len(pieces):
                stop = self._stop(pieces, at)
                batch = pieces[at:stop]
                tokens = count_tokens(batch)
                try:
                    with self.budget.measured(tokens):
                        self._run_batch(batch, pieces[stop].reused if stop < len(pieces) else 0)
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                    self._shrink(batch, error)
                    continue
                if sum(hidden.numel() * 4 for hidden, _ in self.waiting) >= PENDING_BYTES:
                    self._apply_head()
                yield tokens
                at = stop
        self._apply_head()

    def _stop(self, pieces: list[Piece], at: int) -> int:
        if self.route.layout == "single":
            return at + 1
        return take(pieces, at, self.budget.tokens, padded=self.route.layout == "padded")

    def _shrink(self, batch: list[Piece], error: RuntimeError) -> None:
        """Smaller passes from here on: half of what did not fit."""
        if len(batch) == 1:
            i = batch[0].sequence
            raise ModelError(
                f"sequence {i} of {len(self.sequences[i])} tokens does not fit into memory beside the model, "
                "even by itself. Shorten it, or load the model in half precision."
            ) from error
        self.budget.shrink(count_tokens(batch))

    def _run_batch(self, batch: list[Piece], keep: int) -> None:
        layout = lay_out(self.model, self.sequences, batch, self.route, keep)
        if self.route.head in ("kept", "full"):
            self.done.append(model_statistics(self.model, layout, self.route))
        else:
            hidden_PD, kept = hidden_states(self.model, layout, self.carried or None)
            if layout.blocks and len(batch) > 1 and not hidden_PD.isfinite().all():
                hidden_PD = self._one_by_one(batch)
            self.carried = kept
            self.waiting.append((hidden_PD, layout.targets))
        self.order += [piece.sequence for piece in batch]

    def _one_by_one(self, batch: list[Piece]) -> Tensor:
        """Hidden states of packed pieces that did not stay finite, [P, D].

        Short neighbours attend under one mask, and zero times NaN is NaN: by
        themselves, only those that are not finite show it.
        """
        alone = (whole_pieces(self.sequences, [piece.sequence]) for piece in batch)
        layouts = (lay_out(self.model, self.sequences, pieces, self.route) for pieces in alone)
        return torch.cat([hidden_states(self.model, layout)[0] for layout in layouts])

    def _apply_head(self) -> None:
        if self.waiting:
            hidden_PD, targets_P = (torch.cat(column) for column in zip(*self.waiting, strict=True))
            self.waiting.clear()
            self.done.append(hidden_statistics(self.model, hidden_PD, targets_P, self.route))

    def results(self) -> tuple[Any, list[Any]]:
        """Order of the sequences, and their statistics as arrays, token after token."""
        nothing = TokenStatistics(*(torch.zeros(0, dtype=torch.double) for _ in TokenStatistics._fields))
        columns = joined(self.done) if self.done else nothing._replace(predicted=nothing.predicted.long())
        return np.array(self.order, dtype=np.int64), [column.numpy() for column in columns]


def _check(model: Any, sequences: list[Sequence]) -> None:
    config: Any = unwrapped(model).config.get_text_config()
    context: Any = getattr(config, "max_position_embeddings", None)
    known = vocabulary(model)
    for i, sequence in enumerate(sequences):
        # The last token is predicted and never read.
        if isinstance(context, int) and len(sequence) - 1 > context:
            raise DataError(
                f"sequence {i} has {len(sequence)} tokens, more than the model's context of {context}. "
                "Shorten it, or lower max_seq_length."
            )
        low, high = int(sequence.input_ids.min()), int(sequence.input_ids.max())
        if low < 0 or high >= known:
            raise DataError(
                f"sequence {i} holds token {low if low < 0 else high}, outside the model's vocabulary of "
                f"{known}. Does the tokenizer belong to this model?"
            )
