"""Ridge lenses: one Cholesky for all concepts, and what each would say of a group it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from fettle.lens.linear import LinearLenses, from_standard
from fettle.lens.problem import Floats, Ints, LensRows
from fettle.lens.standardise import ROWS_AT_ONCE, Standardisation, standardisation

Doubles = NDArray[np.float64]

EXACT_PRODUCTS = 2**27
"""Excluded rows × rows × features up to which every group is predicted exactly: some milliseconds."""


@dataclass(frozen=True, slots=True, eq=False)
class SharedBank:
    """Rows as every lens of a layer uses them, whatever the penalty."""

    rows: LensRows
    standard: Standardisation
    features: Floats
    """Standardised, [N, D]."""
    covariance: Doubles
    """Features'ᵀ·features / N, summed in float64, and 1 on the diagonal, [D, D]."""

    @staticmethod
    def of(rows: LensRows) -> SharedBank:
        """Standardise, and form the one matrix that all lenses share."""
        standard = standardisation(rows.features)
        features = standard.apply(rows.features)
        covariance = np.zeros((features.shape[1], features.shape[1]))
        for start in range(0, len(features), ROWS_AT_ONCE):
            block = features[start : start + ROWS_AT_ONCE]
            covariance += block.T @ block
        covariance /= len(features)
        # What a feature's floored deviation holds beyond its variance is the rounding it may meet: the
        # diagonal counts it as noise, so that no lens wins back by its weight what the floor took away.
        np.fill_diagonal(covariance, 1.0)
        return SharedBank(rows, standard, features, covariance)

    def take(self, lenses: Sequence[int]) -> SharedBank:
        """The same bank for some of the lenses."""
        return replace(self, rows=self.rows.take(lenses))


class RidgeFit:
    """Ridge regression of 1 for positives and 0 for negatives, all lenses of a bank at once.

    Minimises Σ (y - w·z - b)² + N·Σ_d (penalty + 1 - var z_d)·w_d² over a lens's positives and negatives,
    z standardised and b free; var z_d is 1 but for features with a floored deviation. With
    L·Lᵀ = covariance + penalty·I and W = [1, Z·L⁻ᵀ] / √N the fitted values are W·Wᵀ·y, one product for all.

    Rows that a lens leaves out are taken from its fit exactly: given the value that the others predict for
    them, they change nothing (N stays that of the bank).
    """

    def __init__(self, bank: SharedBank, penalty: float) -> None:
        self.bank = bank
        self.penalty = penalty
        lower = linalg.cholesky(bank.covariance + penalty * np.eye(len(bank.covariance)), lower=True)
        inverse, _ = linalg.lapack.dtrtri(lower, lower=1)
        self._inverse_root = np.tril(inverse).astype(np.float32)
        self._projected = self._project()
        root_n = np.sqrt(len(bank.rows))
        weights_CD = self._projected[:, 1:] @ self._inverse_root / root_n
        self.lenses: LinearLenses = from_standard(bank.standard, weights_CD, self._projected[:, 0] / root_n)

    def fitted(self, first: int, last: int) -> Floats:
        """What lenses first:last say of their own training rows, [lenses, N]."""
        return self._projected[first:last] @ self._whitened.T

    def held_out(self, first: int, last: int, fitted: Floats | None = None) -> Floats:
        """What they would say of each row, had its group not been trained on, [lenses, N].

        Leave-one-group-out in closed form: the residual of group g is (I - H_gg)⁻¹ (y_g - ŷ_g). Exact; only
        for a lens that excludes rows of a large bank, groups without a positive are predicted with the
        values of the excluded rows held fixed.
        """
        rows = self.bank.rows
        fitted = self.fitted(first, last) if fitted is None else fitted
        # y - (I - H)⁻¹ (y - ŷ) is (I - H)⁻¹ ŷ but for groups that hold a positive.
        held_out = np.empty_like(fitted)
        positive = np.concatenate(rows.positive[first:last])
        lens = np.repeat(np.arange(last - first), [own.size for own in rows.positive[first:last]])
        for start, blocks in self._inverse_blocks:
            groups, size = blocks.shape[:2]
            part = slice(start, start + groups * size)
            view = fitted[:, part].reshape(-1, groups, size).transpose(1, 0, 2)
            out = held_out[:, part].reshape(-1, groups, size)
            out[:] = (view * blocks if size == 1 else view @ blocks).transpose(1, 0, 2)
            here = (positive >= start) & (positive < part.stop)
            group, place = np.divmod(positive[here] - start, size)
            members = start + group[:, None] * size + np.arange(size)
            np.subtract.at(held_out, (lens[here][:, None], members), blocks[group, place])
        held_out[lens, positive] += 1
        for lenses, blocks in self._blocks_without_excluded:
            here = lenses[(lenses >= first) & (lenses < last)] - first
            for group, block in blocks if here.size else []:
                at = np.ix_(here, group)
                shown = np.stack([np.isin(group, rows.positive[first + int(k)]) for k in here])
                held_out[at] = shown - (shown - fitted[at]).astype(np.float32) @ block
        return held_out

    def _project(self) -> Floats:
        """Wᵀ·y of every lens, [C, 1 + D], its excluded rows given their own prediction."""
        rows, n = self.bank.rows, len(self.bank.rows)
        counts = np.array([positive.size for positive in rows.positive])
        ones = np.ones(int(counts.sum()), dtype=np.float32)
        pointers = np.concatenate([[0], counts.cumsum()])
        columns = np.concatenate(rows.positive)
        positive_CN = sparse.csr_array((ones, columns, pointers), shape=(rows.lenses, n))
        sums_CD = cast("Floats", positive_CN @ self.bank.features)
        projected = np.concatenate([counts[:, None], sums_CD @ self._inverse_root.T], axis=1)
        projected = (projected / np.sqrt(n)).astype(np.float32)
        for excluded, lenses in _by_exclusion(rows):
            projected[lenses] = _without(self._whiten(excluded), projected[lenses])
        return projected

    def _whiten(self, index: Ints | slice) -> Floats:
        """Rows of W, [rows, 1 + D]."""
        features = self.bank.features[index]
        whitened = np.empty((len(features), features.shape[1] + 1), dtype=np.float32)
        whitened[:, 0] = 1
        np.matmul(features, self._inverse_root.T, out=whitened[:, 1:])
        whitened /= np.sqrt(len(self.bank.rows), dtype=np.float32)
        return whitened

    @cached_property
    def _whitened(self) -> Floats:
        return self._whiten(slice(None))

    @cached_property
    def _inverse_blocks(self) -> list[tuple[int, Floats]]:
        """(I - H_gg)⁻¹ of all groups of one size: where they begin, and [groups, size, size]."""
        _, starts, counts = np.unique(self.bank.rows.groups, return_index=True, return_counts=True)
        blocks: list[tuple[int, Floats]] = []
        for size in np.unique(counts).tolist():
            first = int(starts[counts == size].min())
            groups = int((counts == size).sum())
            rows = self._whitened[first : first + groups * size].reshape(groups, size, -1)
            leverage = rows @ rows.transpose(0, 2, 1)
            blocks.append((first, np.linalg.inv(np.eye(size) - leverage).astype(np.float32)))
        return blocks

    @cached_property
    def _blocks_without_excluded(self) -> list[tuple[Ints, list[tuple[Ints, Floats]]]]:
        """Lenses that exclude the same rows; the rest of each group, and its (I - H_gg)⁻¹ without those."""
        rows, found = self.bank.rows, list[tuple[Ints, list[tuple[Ints, Floats]]]]()
        for excluded, lenses in _by_exclusion(rows):
            numbers = rows.groups
            if excluded.size * rows.features.size > EXACT_PRODUCTS:
                numbers = rows.groups[np.concatenate([rows.positive[lens] for lens in lenses])]
            held = np.setdiff1d(np.flatnonzero(np.isin(rows.groups, numbers)), excluded)
            whitened = self._whitened[held]
            reduced = _without(self._whitened[excluded], whitened)
            starts = np.unique(rows.groups[held], return_index=True)[1]
            blocks: list[tuple[Ints, Floats]] = []
            for here in np.split(np.arange(held.size), np.sort(starts)[1:]):
                leverage = reduced[here] @ whitened[here].T
                blocks.append((held[here], np.linalg.inv(np.eye(here.size) - leverage).astype(np.float32)))
            found.append((np.array(lenses), blocks))
        return found


def fit_ridge(rows: LensRows, penalty: float) -> RidgeFit:
    """Lenses of one set of rows; to try several penalties form the `SharedBank` once."""
    return RidgeFit(SharedBank.of(rows), penalty)


def _without(removed_ED: Floats, values_CD: Floats) -> Floats:
    """values · (I - RᵀR)⁻¹: projections from which the rows R have been removed, [C, 1 + D].

    By the smaller of two systems: (I - RᵀR)⁻¹ = I + Rᵀ·(I - R·Rᵀ)⁻¹·R.
    """
    removed, values = removed_ED.astype(np.float64), values_CD.astype(np.float64)
    rows, size = removed.shape
    if rows > size:
        kept = linalg.solve(np.eye(size) - removed.T @ removed, values.T, assume_a="pos").T
    else:
        inner = linalg.solve(np.eye(rows) - removed @ removed.T, removed @ values.T, assume_a="pos")
        kept = values + inner.T @ removed
    return kept.astype(np.float32)


def _by_exclusion(rows: LensRows) -> list[tuple[Ints, list[int]]]:
    """Sets of excluded rows, and the lenses that share each; siblings without children share one."""
    lenses: dict[bytes, list[int]] = {}
    for lens, excluded in enumerate(rows.excluded):
        if excluded.size:
            lenses.setdefault(excluded.tobytes(), []).append(lens)
    return [(rows.excluded[sharing[0]], sharing) for sharing in lenses.values()]
