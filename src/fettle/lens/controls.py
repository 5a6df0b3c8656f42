"""What is reported beside every lens: how far one gets without the concept, or without the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fettle.errors import DataError
from fettle.lens.judge import judge_held_out, judge_rows
from fettle.lens.linear import from_standard
from fettle.lens.penalty import choose_penalty
from fettle.lens.problem import Floats, LensProblem, LensRows, Part
from fettle.lens.ridge import RidgeFit, SharedBank, fit_ridge
from fettle.lens.standardise import standardisation
from fettle.metrics import BinaryScores, best_threshold

MOST_FEATURES = 2048

Results = list[BinaryScores | None]


@dataclass(frozen=True, slots=True)
class Gain:
    """Mean over lenses of lens minus baseline, in AUROC, with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def baseline(
    problem: LensProblem,
    features: Floats | sparse.csr_array[Any],
    *,
    prevalence: float,
    part: Part = "test",
) -> Results:
    """The same lenses fitted on other features of the same texts: bag of words, the template alone.

    They get the same choice of penalty and threshold as the lenses do.
    """
    seen = problem.with_features(dense_features(features))
    bank = SharedBank.of(seen.rows("train"))
    fit = RidgeFit(bank, choose_penalty(seen, bank=bank)[0])
    thresholds = [held_out.threshold for held_out in judge_held_out(fit, bank.rows)]
    return judge_rows(fit.lenses, seen.rows(part), thresholds, prevalence=prevalence)


def shuffled_labels(
    problem: LensProblem, penalty: float, *, prevalence: float, seed: int = 0, part: Part = "test"
) -> Results:
    """Lenses trained on labels dealt anew among the groups: chance, unless a test text is in training."""
    rows = shuffle(problem.rows("train"), np.random.default_rng(seed))
    fit = fit_ridge(rows, penalty)
    thresholds = [held_out.threshold for held_out in judge_held_out(fit, rows)]
    return judge_rows(fit.lenses, problem.rows(part), thresholds, prevalence=prevalence)


def random_directions(
    problem: LensProblem, *, prevalence: float, seed: int = 0, part: Part = "test"
) -> Results:
    """A random direction of the standardised activations for each lens, its threshold chosen in training."""
    train = problem.rows("train")
    draws = np.random.default_rng(seed).standard_normal((train.lenses, train.features.shape[1]))
    lenses = from_standard(standardisation(train.features), draws, np.zeros(train.lenses))
    scores_NC = lenses.scores(train.features)
    thresholds = [best_threshold(*train.split(scores_NC, c))[0] for c in range(train.lenses)]
    return judge_rows(lenses, problem.rows(part), thresholds, prevalence=prevalence)


def selectivity(lenses: Results, baselines: Mapping[str, Results]) -> list[float | None]:
    """AUROC of each lens minus that of its best baseline; None where either was not measured."""
    best = [
        max((b.auroc.value for b in of_lens if b is not None), default=None)
        for of_lens in zip(*baselines.values(), strict=True)
    ]
    return [
        None if lens is None or other is None else lens.auroc.value - other
        for lens, other in zip(lenses, best, strict=True)
    ]


def gain(lenses: Results, other: Results) -> Gain | None:
    """Of the lenses over one baseline, by bootstrap over lenses; None where nothing was measured."""
    pairs = zip(lenses, other, strict=True)
    gains = np.array([a.auroc.value - b.auroc.value for a, b in pairs if a and b])
    if gains.size == 0:
        return None
    draws = np.random.default_rng(0).choice(gains, (2000, gains.size)).mean(1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return Gain(float(gains.mean()), float(low), float(high))


def refuse_templates(lenses: Results, template: Results) -> None:
    """Raise DataError where the template alone tells positives from negatives as well as the lenses do."""
    over = gain(lenses, template)
    if over is None or over.low > 0:
        return
    means = [np.mean([r.auroc.value for r in results if r]) for results in (lenses, template)]
    raise DataError(
        f"lenses: refused: the template alone reaches AUROC {means[1]:.3f}, the lenses {means[0]:.3f} "
        f"(difference {over.value:+.3f}, interval {over.low:+.3f} to {over.high:+.3f}); they would read the "
        "template. Write positives and negatives with the same templates"
    )


def dense_features(features: Floats | sparse.csr_array[Any], most: int = MOST_FEATURES) -> Floats:
    """Dense features, [N, at most `most`].

    More columns than that are added up with random signs in `most` buckets, which keeps inner products
    in the mean (Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning").
    """
    if not sparse.issparse(features):
        return np.asarray(features, dtype=np.float32)
    width = features.shape[1]
    if width > most:
        rng = np.random.default_rng(0)
        signs, buckets = rng.choice([-1.0, 1.0], width), rng.integers(0, most, width)
        features = features @ sparse.csr_array((signs, (np.arange(width), buckets)), shape=(width, most))
    return features.toarray().astype(np.float32)


def shuffle(rows: LensRows, rng: np.random.Generator) -> LensRows:
    """Each group takes the labels of another, row by row, again from its first where it is longer."""
    starts = np.flatnonzero(np.diff(rows.groups, prepend=-1))
    sizes = np.diff(starts, append=len(rows))
    source = rng.permutation(starts.size)[np.repeat(np.arange(starts.size), sizes)]
    offset_N = (np.arange(len(rows)) - np.repeat(starts, sizes)) % sizes[source]
    taken_N = starts[source] + offset_N
    if any(not np.isin(taken_N, positive).any() for positive in rows.positive):
        taken_N = rng.permutation(len(rows))  # A concept's only group met a smaller one.

    def dealt(labels: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        return [np.flatnonzero(np.isin(taken_N, own)) for own in labels]

    return replace(
        rows,
        positive=dealt(rows.positive),
        excluded=dealt(rows.excluded),
        judged=None if rows.judged is None else dealt(rows.judged),
    )
