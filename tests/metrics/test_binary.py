"""Scores of a detector against scikit-learn; intervals by simulation and by hand."""

import numpy as np
import pytest
from sklearn import metrics as sk

from fettle.metrics.auroc import auroc, contested_auroc, placements
from fettle.metrics.binary import average_precision, best_threshold, binary_scores, precision_at


def drawn(seed: int, positives: int, negatives: int, shift: float = 1.5, ties: bool = False):
    rng = np.random.default_rng(seed)
    positive = rng.normal(shift, 1, positives).astype(np.float32)
    negative = rng.normal(0, 1, negatives).astype(np.float32)
    return (positive.round(1), negative.round(1)) if ties else (positive, negative)


def labelled(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat([1, 0], [positive.size, negative.size]), np.concatenate([positive, negative])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("positives", "negatives"), [(20, 400), (7, 150), (300, 300), (1, 200)])
def test_equals_scikit_learn(positives: int, negatives: int, ties: bool) -> None:
    positive, negative = drawn(positives, positives, negatives, ties=ties)
    y, s = labelled(positive, negative)
    found = binary_scores(positive, negative, 0.8, prevalence=0.01)
    assert found is not None
    assert found.auroc.value == pytest.approx(sk.roc_auc_score(y, s))
    assert found.average_precision.value == pytest.approx(sk.average_precision_score(y, s))
    balanced = np.where(y == 1, 1 / positives, 1 / negatives)
    assert found.f1.value == pytest.approx(sk.f1_score(y, s >= 0.8, sample_weight=balanced))
    rare = np.where(y == 1, 0.01 / positives, 0.99 / negatives)
    assert found.precision is not None
    assert found.precision.value == pytest.approx(sk.precision_score(y, s >= 0.8, sample_weight=rare))
    false_rate, hit_rate, _ = sk.roc_curve(y, s, drop_intermediate=False)
    assert found.recall_at_1_percent is not None
    assert found.recall_at_1_percent.value == pytest.approx(hit_rate[false_rate <= 0.01].max())


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("prevalence", [0.05, 0.5])
def test_no_threshold_has_a_higher_f1(prevalence: float, ties: bool) -> None:
    positive, negative = drawn(3, 25, 300, ties=ties)
    y, s = labelled(positive, negative)
    weight = np.where(y == 1, prevalence / 25, (1 - prevalence) / 300)
    threshold, f1 = best_threshold(positive, negative, prevalence)
    assert f1 == pytest.approx(sk.f1_score(y, s >= threshold, sample_weight=weight))
    assert f1 == pytest.approx(max(sk.f1_score(y, s >= t, sample_weight=weight) for t in np.unique(s)))


def test_the_threshold_lies_halfway_between_separated_classes() -> None:
    assert best_threshold(np.array([3.0, 5.0]), np.array([-1.0, 1.0])) == (2.0, 1.0)


def test_placements_of_separated_and_of_equal_scores() -> None:
    below, above = placements(np.array([2.0, 3.0]), np.array([0.0, 1.0]))
    assert below.tolist() == above.tolist() == [1.0, 1.0]
    below, above = placements(np.array([1.0]), np.array([1.0, 0.0]))
    assert below.tolist() == [0.75]
    assert above.tolist() == [0.5, 1.0]


def test_what_the_rows_cannot_tell_is_none() -> None:
    positive, negative = drawn(0, 10, 99)
    assert binary_scores(positive, np.array([]), 0.0, prevalence=0.1) is None
    few = binary_scores(positive, negative, 99.0, prevalence=0.1)
    assert few is not None
    assert few.recall_at_1_percent is None
    assert few.precision is None
    assert few.f1.value == 0.0


def test_a_clean_test_set_promises_no_perfect_precision() -> None:
    # No false positive among 300 says only that fewer than about 1.3 % are; of one in a thousand
    # that are real, most alarms may still be false.
    found = binary_scores(np.ones(20), np.zeros(300), 0.5, prevalence=0.001)
    assert found is not None
    assert found.precision is not None
    assert found.precision.value == 1.0
    low = precision_at(1.0, 0.01264, 0.001)
    assert found.precision.low == pytest.approx(low, abs=0.01)
    assert found.f1.low is not None
    assert 0.85 < found.f1.low < 0.95  # 20 of 20 found: Wilson's lower end is .839


def test_rows_of_a_group_count_less_than_independent_ones() -> None:
    rng = np.random.default_rng(5)
    groups = np.arange(40).repeat(10)
    shared = rng.normal(0, 1, 40).repeat(10) + 0.1 * rng.normal(0, 1, 400)
    positive, negative = shared[:200] + 1, shared[200:]
    alone = binary_scores(positive, negative, 0.5, prevalence=0.5)
    grouped = binary_scores(
        positive,
        negative,
        0.5,
        prevalence=0.5,
        positive_groups_P=groups[:200],
        negative_groups_N=groups[200:],
    )
    assert alone is not None
    assert grouped is not None
    for name in ("f1", "auroc", "average_precision", "recall_at_1_percent"):
        one, other = getattr(alone, name), getattr(grouped, name)
        assert one.value == other.value
        assert other.high - other.low > 2 * (one.high - one.low)


@pytest.mark.parametrize("per_group", [1, 5])
def test_intervals_cover_the_truth(per_group: int) -> None:
    """95 % intervals of 20 groups of positives hold the value of a million draws, nine times in ten."""
    rng = np.random.default_rng(7)
    spread = 0.7 if per_group > 1 else 0.0

    def scores(rows: int, shift: float) -> np.ndarray:
        shared = rng.normal(0, spread, -(-rows // per_group)).repeat(per_group)[:rows]
        return shift + shared + rng.normal(0, np.sqrt(1 - spread**2), rows)

    everything = binary_scores(scores(50_000, 1.7), scores(950_000, 0.0), 1.2, prevalence=0.05)
    assert everything is not None
    names = ("f1", "auroc", "average_precision", "recall_at_1_percent", "precision")
    covered = dict.fromkeys(names, 0)
    positive_groups, negative_groups = np.arange(20).repeat(per_group), np.arange(20, 400).repeat(per_group)
    for _ in range(200):
        positive, negative = scores(20 * per_group, 1.7), scores(380 * per_group, 0.0)
        found = binary_scores(
            positive,
            negative,
            1.2,
            prevalence=0.05,
            positive_groups_P=positive_groups,
            negative_groups_N=negative_groups,
        )
        for name in names:
            estimate, truth = getattr(found, name), getattr(everything, name)
            assert estimate.low <= estimate.value <= estimate.high
            covered[name] += estimate.low <= truth.value <= estimate.high
    print(covered)
    assert min(covered.values()) >= 180


def test_average_precision_by_hand() -> None:
    # In order: +, -, +. Precision at the positives: 1 and 2/3.
    assert average_precision(np.array([3.0, 1.0]), np.array([2.0])) == pytest.approx(5 / 6)


def test_f1_is_judged_on_the_judged_negatives_alone() -> None:
    positive, negative = drawn(1, 30, 500)
    judged = np.arange(500) < 40
    some = binary_scores(positive, negative, 1.0, prevalence=0.1, judged_N=judged)
    alone = binary_scores(positive, negative[:40], 1.0, prevalence=0.1)
    every = binary_scores(positive, negative, 1.0, prevalence=0.1)
    assert some is not None
    assert alone is not None
    assert every is not None
    assert some.f1.value == alone.f1.value != every.f1.value
    assert some.precision == every.precision
    assert some.auroc == every.auroc


@pytest.mark.parametrize("shift", [0.3, 2.0, 9.0])
def test_contested_negatives_are_enough_for_the_auroc(shift: float) -> None:
    positive, negative = drawn(4, 24, 5000, shift)
    groups = np.arange(24) // 4
    contested = negative[negative >= positive.min()]
    quick = contested_auroc(positive, contested, groups, 5000)
    whole = auroc(positive, negative, groups, np.arange(10, 5010))
    assert quick.value == pytest.approx(whole.value)
    assert (quick.low, quick.high) == pytest.approx((whole.low, whole.high), abs=1e-3)
