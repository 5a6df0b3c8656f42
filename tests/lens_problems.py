"""Lens problems of known structure, for tests."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from fettle.lens.judge import judge_held_out, negative_moments
from fettle.lens.lens_pack import LensPack
from fettle.lens.problem import LensProblem
from fettle.lens.ridge import fit_ridge

SHARES = (("train", 0.4), ("select", 0.1), ("calibrate", 0.1), ("test", 0.4))


def clusters(
    concepts: int = 6,
    texts: int = 40,
    features: int = 24,
    *,
    per_group: int = 4,
    distance: float = 3.0,
    noise: float = 1.0,
    seed: int = 0,
    related: np.ndarray | None = None,
) -> LensProblem:
    """Each concept a Gaussian cluster around a centre of its own, texts in groups that share an offset."""
    from fettle.lens.problem import exclude_relatives

    rng = np.random.default_rng(seed)
    owner = np.arange(concepts).repeat(texts)
    groups = np.arange(concepts * texts) // per_group
    centres = rng.normal(0, distance / np.sqrt(2 * features) * np.sqrt(2), (concepts, features))
    offsets = rng.normal(0, 0.5 * noise, (groups.max() + 1, features))
    activations = centres[owner] + offsets[groups] + rng.normal(0, noise, (owner.size, features))
    positive = sparse.csr_array(owner[:, None] == np.arange(concepts))
    related = np.zeros((concepts, concepts), dtype=bool) if related is None else related
    return LensProblem(
        concepts=[f"concept {c}" for c in range(concepts)],
        features=activations.astype(np.float32),
        positive=positive,
        excluded=exclude_relatives(positive, related),
        groups=groups.astype(np.int64),
        sets=split(owner, groups, rng),
    )


def split(owner: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> dict:
    """Whole groups of each concept dealt to the four sets in their shares."""
    sets: dict[str, list[int]] = {name: [] for name, _ in SHARES}
    ends = np.cumsum([share for _, share in SHARES])
    for concept in np.unique(owner):
        own = np.unique(groups[owner == concept])
        place = (rng.permutation(own.size) + 0.5) / own.size
        for group, where in zip(own, np.searchsorted(ends, place), strict=True):
            sets[SHARES[where][0]] += np.flatnonzero(groups == group).tolist()
    return {name: np.array(sorted(rows), dtype=np.int64) for name, rows in sets.items()}


def pack_of(problem: LensProblem, layer: int = 3) -> LensPack:
    """Ridge lenses on the training texts, of no model; a record holds the F1 held out."""
    rows = problem.rows("train")
    fit = fit_ridge(rows, 0.1)
    held_out = judge_held_out(fit, rows)
    mean, deviation = negative_moments(held_out)
    return LensPack(
        concepts=problem.concepts,
        layer=layer,
        identity={},
        lenses=fit.lenses,
        thresholds=np.array([h.threshold for h in held_out], dtype=np.float32),
        negative_mean=mean,
        negative_deviation=deviation,
        platts=[None] * rows.lenses,
        records=[{"f1": h.f1} for h in held_out],
    )
