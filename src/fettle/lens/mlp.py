"""The small network of the earlier system, many at once; kept only where it beats the linear lens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
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
"""Negatives a positive, drawn at random: the whole bank would take hours.

Those that the linear lens finds hardest lie where positives of a fold left out do, and teach a network to
shun them: 20 concepts of 20 texts on all-MiniLM-L6-v2 came to AUROC 0.69 with half of them, 0.87 with none.
"""
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
        plain_ND = torch.from_numpy(self.standard.apply(features_ND))
        found: list[Floats] = []
        for k in range(len(self.weights[0])):  # One by one: all at once would hold K copies of the texts.
            states = plain_ND.clone().requires_grad_()
            own = [[part[k : k + 1] for part in side] for side in (self.weights, self.biases)]
            _forward(states[None], own[0], own[1]).sum().backward()
            assert states.grad is not None
            found.append(states.grad.mean(0).numpy())
        return (np.stack(found) / self.standard.deviation).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A network beside the linear lens, both on groups that neither saw."""

    lens: int
    linear_auroc: float
    mlp_auroc: float
    low: float
    """Lower end of the 95 % interval of the difference, by Student's t over folds."""
    held_out: Floats = field(compare=False, repr=False)
    """What the network says of each row, its fold not trained on, [N]."""

    @property
    def kept(self) -> bool:
        """Whether the network is worth its cost: better by more than noise, and by enough."""
        return self.low > 0 and self.mlp_auroc >= self.linear_auroc + BETTER_BY


def fit_mlp(rows: LensRows, lenses: Sequence[int], *, seed: int = 0) -> MlpLenses:
    """Networks for some of the lenses, trained together, each on its positives and as many negatives."""
    everyone = np.ones(len(rows), dtype=np.bool_)
    return _fit(rows, _sampled(rows, lenses, seed), everyone, seed)


def compare_mlp(rows: LensRows, linear: Fit, lenses: Sequence[int], *, seed: int = 0) -> list[Comparison]:
    """Networks and linear lenses by out-of-group predictions on the training rows."""
    sampled = _sampled(rows, lenses, seed)
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
        found.append(
            Comparison(lens, float(np.mean(base)), float(np.mean(area)), _low(area, base), scores_KN[k])
        )
    return found


Sample = tuple[NDArray[np.int64], int]
"""Rows of one network, its positives first, and how many those are."""


def _sampled(rows: LensRows, lenses: Sequence[int], seed: int) -> list[Sample]:
    rng = np.random.default_rng(seed)
    found: list[Sample] = []
    for lens in lenses:
        positive, negative = rows.positive[lens], np.flatnonzero(rows.negative(lens))
        wanted = min(PER_POSITIVE * positive.size, negative.size)
        drawn = rng.choice(negative, wanted, replace=False)
        found.append((np.concatenate([positive, drawn]), positive.size))
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


def _low(area: Sequence[float], base: Sequence[float]) -> float:
    """Lower end of the mean difference; below all of them where there is one fold."""
    over_F = np.subtract(area, base)
    if over_F.size < 2:
        return -np.inf
    t = float(special.stdtrit(over_F.size - 1, 0.975))
    return float(over_F.mean() - t * over_F.std(ddof=1) / np.sqrt(over_F.size))


def _by_fold(
    fold_N: NDArray[np.int64], positive: NDArray[np.int64], negative: NDArray[np.int64]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    parts = [(positive[fold_N[positive] == f], negative[fold_N[negative] == f]) for f in range(FOLDS)]
    return [(p, n) for p, n in parts if p.size and n.size]
