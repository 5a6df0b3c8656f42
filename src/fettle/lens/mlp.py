"""The small network of the earlier system, many at once; kept only where it beats the linear lens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, dropout

from fettle.lens.folds import FOLDS, group_folds
from fettle.lens.judge import Fit
from fettle.lens.problem import Floats, LensRows
from fettle.lens.standardise import Standardisation, standardisation
from fettle.metrics import area_under_curve

HIDDEN = (128, 64)
DROPOUT = 0.2
LEARNING_RATE = 1e-3
EPOCHS = 50
PER_POSITIVE = 1
"""Negatives a positive: the whole bank would take hours."""
HARD = 0.5
"""Share of the negatives that are those the linear lens scores highest."""
NETWORKS_AT_ONCE = 64
BETTER_BY = 0.01
"""AUROC that a network must gain for its hundredfold cost."""


@dataclass(frozen=True, slots=True, eq=False)
class MlpLenses:
    """K networks D → 128 → 64 → 1 with ReLU, over standardised features."""

    standard: Standardisation
    weights: list[Tensor]
    """[K, D, 128], [K, 128, 64], [K, 64, 1]."""
    biases: list[Tensor]
    """[K, 1, 128], [K, 1, 64], [K, 1, 1]."""

    def scores(self, features_ND: NDArray[Any]) -> Floats:
        """Logits, [N, K]."""
        states = torch.from_numpy(self.standard.apply(features_ND))
        with torch.no_grad():
            return _forward(states[None], self.weights, self.biases).T.numpy()

    def directions(self, features_ND: NDArray[Any]) -> Floats:
        """Mean gradient of each network's logit over texts, in units of the features, [K, D].

        Where the network bends it points one way for one text and another for the next; the mean is what
        steering can use.
        """
        states = torch.from_numpy(self.standard.apply(features_ND)).expand(len(self.weights[0]), -1, -1)
        states = states.clone().requires_grad_()
        _forward(states, self.weights, self.biases).sum().backward()
        assert states.grad is not None
        return (states.grad.mean(1).numpy() / self.standard.deviation).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A network beside the linear lens, both on groups that neither saw."""

    lens: int
    linear_auroc: float
    mlp_auroc: float

    @property
    def kept(self) -> bool:
        """Whether the network is worth its cost."""
        return self.mlp_auroc >= self.linear_auroc + BETTER_BY


def fit_mlp(rows: LensRows, linear: Fit, lenses: Sequence[int], *, seed: int = 0) -> MlpLenses:
    """Networks for some of the lenses, trained together.

    Each has the positives of its lens and as many negatives, half of them those that the linear lens finds
    hardest, half drawn from the rest.
    """
    everyone = np.ones(len(rows), dtype=np.bool_)
    return _fit(rows, _sampled(rows, linear, lenses, seed), everyone, seed)


def compare_mlp(rows: LensRows, linear: Fit, lenses: Sequence[int], *, seed: int = 0) -> list[Comparison]:
    """Networks and linear lenses by out-of-group predictions on the training rows."""
    sampled = _sampled(rows, linear, lenses, seed)
    fold_N = group_folds(rows)
    scores_KN = np.empty((len(lenses), len(rows)), dtype=np.float32)
    for fold in range(FOLDS):
        networks = _fit(rows, sampled, fold_N != fold, seed)
        scores_KN[:, fold_N == fold] = networks.scores(rows.features[fold_N == fold]).T
    found: list[Comparison] = []
    for k, lens in enumerate(lenses):
        positive, negative = rows.positive[lens], np.flatnonzero(rows.negative(lens))
        linear_N = linear.held_out(lens, lens + 1)[0]
        # Fold by fold, because logits of networks trained apart have no common zero.
        area = [
            area_under_curve(scores_KN[k, p], scores_KN[k, n])
            for p, n in _by_fold(fold_N, positive, negative)
        ]
        base = [area_under_curve(linear_N[p], linear_N[n]) for p, n in _by_fold(fold_N, positive, negative)]
        found.append(Comparison(lens, float(np.mean(base)), float(np.mean(area))))
    return found


Sample = tuple[NDArray[np.int64], int]
"""Rows of one network, its positives first, and how many those are."""


def _sampled(rows: LensRows, linear: Fit, lenses: Sequence[int], seed: int) -> list[Sample]:
    rng = np.random.default_rng(seed)
    found: list[Sample] = []
    for lens in lenses:
        positive, negative = rows.positive[lens], np.flatnonzero(rows.negative(lens))
        wanted = min(PER_POSITIVE * positive.size, negative.size)
        held_out_N = linear.held_out(lens, lens + 1)[0]
        ordered = negative[np.argsort(-held_out_N[negative], kind="stable")]
        hard = round(HARD * wanted)
        drawn = rng.choice(ordered[hard:], wanted - hard, replace=False)
        found.append((np.concatenate([positive, ordered[:hard], drawn]), positive.size))
    return found


def _fit(rows: LensRows, sampled: Sequence[Sample], used_N: NDArray[np.bool_], seed: int) -> MlpLenses:
    standard = standardisation(rows.features[used_N])
    states = torch.from_numpy(standard.apply(rows.features))
    parts = [
        _train(states, sampled[start : start + NETWORKS_AT_ONCE], used_N, seed + start)
        for start in range(0, len(sampled), NETWORKS_AT_ONCE)
    ]
    weights, biases = (
        [torch.cat(layer) for layer in zip(*side, strict=True)] for side in zip(*parts, strict=True)
    )
    return MlpLenses(standard, weights, biases)


def _train(
    states: Tensor, sampled: Sequence[Sample], used_N: NDArray[np.bool_], seed: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Full-batch AdamW on all networks of a batch; shorter samples are padded with rows of no weight."""
    width, networks = max(index.size for index, _ in sampled), len(sampled)
    index_KB = np.zeros((networks, width), dtype=np.int64)
    shown_KB, counted_KB = torch.zeros(networks, width), torch.zeros(networks, width)
    for k, (index, positives) in enumerate(sampled):
        index_KB[k, : index.size] = index
        shown_KB[k, :positives] = 1
        counted_KB[k, : index.size] = torch.from_numpy(used_N[index]).float()
    counted_KB /= counted_KB.sum(1, keepdim=True).clamp(min=1)
    inputs_KBD = states[torch.from_numpy(index_KB)]
    draws = torch.Generator().manual_seed(seed)
    sizes = [states.shape[1], *HIDDEN, 1]
    weights, biases = _initial(sizes, networks, draws)
    optimizer = torch.optim.AdamW([*weights, *biases], lr=LEARNING_RATE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(EPOCHS):
            optimizer.zero_grad()
            logits_KB = _forward(inputs_KBD, weights, biases, DROPOUT)
            losses = binary_cross_entropy_with_logits(logits_KB, shown_KB, weight=counted_KB, reduction="sum")
            losses.backward()
            optimizer.step()
    return [w.detach() for w in weights], [b.detach() for b in biases]


def _initial(sizes: list[int], networks: int, draws: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
    """As `torch.nn.Linear` begins: uniform within 1 / sqrt(inputs)."""
    weights: list[Tensor] = []
    biases: list[Tensor] = []
    for inputs, outputs in pairwise(sizes):
        bound = inputs**-0.5
        for into, shape in ((weights, (networks, inputs, outputs)), (biases, (networks, 1, outputs))):
            drawn = (2 * torch.rand(shape, generator=draws) - 1) * bound
            into.append(drawn.requires_grad_())
    return weights, biases


def _forward(
    states: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], drop: float = 0.0
) -> Tensor:
    """Logits, [K, B]."""
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        states = dropout((states @ w + b).relu(), drop, training=drop > 0)
    return (states @ weights[-1] + biases[-1])[..., 0]


def _by_fold(
    fold_N: NDArray[np.int64], positive: NDArray[np.int64], negative: NDArray[np.int64]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    parts = [(positive[fold_N[positive] == f], negative[fold_N[negative] == f]) for f in range(FOLDS)]
    return [(p, n) for p, n in parts if p.size and n.size]
