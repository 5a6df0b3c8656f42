"""Expected calibration error against torchmetrics, its bins, and the Brier score."""

import warnings

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from fettle.metrics import (
    brier_score,
    calibration_bins,
    expected_calibration_error,
    expected_calibration_error_from_bins,
)


@pytest.mark.parametrize(("n", "seed"), [(50, 0), (1_000, 1), (20_000, 2)])
def test_equals_torchmetrics_away_from_its_defect(n: int, seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from torchmetrics.functional.classification import binary_calibration_error
    rng = np.random.default_rng(seed)
    confidence = rng.beta(4, 1.5, n).clip(0, 0.999)  # torchmetrics puts 1.0 in a bin of its own
    correct = rng.random(n) < confidence**1.5
    theirs = binary_calibration_error(torch.tensor(confidence), torch.tensor(correct), n_bins=10, norm="l1")
    assert expected_calibration_error(confidence, correct) == pytest.approx(float(theirs), abs=1e-6)


def test_by_hand() -> None:
    # (.8, .9]: two tokens at .85 and .9, one right: |1 - 1.75| = .75. (.2, .3]: one at .3, wrong: .3.
    confidence = np.array([0.85, 0.9, 0.3])
    correct = np.array([True, False, False])
    assert expected_calibration_error(confidence, correct) == pytest.approx((0.75 + 0.3) / 3)


def test_last_bin_is_closed_at_one() -> None:
    # .95 wrong and 1.0 right share the last bin, where they almost cancel: |1 - 1.95| / 2. In bins
    # of their own the gaps would be .95 and 0; the value is the same, so look at the bins too.
    tokens, confidence, _ = calibration_bins(np.array([0.95, 1.0]), np.array([False, True]), np.array([0, 2]))
    assert tokens.tolist() == [[0] * 9 + [2]]
    assert confidence[0, 9] == pytest.approx(1.95)
    # Two tokens whose gaps have opposite signs: one bin gives |1.6 - ...|, two bins would add up.
    ours = expected_calibration_error(np.array([0.92, 1.0]), np.array([True, False]))
    assert ours == pytest.approx(abs(1 - 1.92) / 2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_edges_belong_to_the_lower_bin_in_every_dtype(dtype: type) -> None:
    edges = (np.arange(1, 11) / 10).astype(dtype)
    tokens, _, _ = calibration_bins(edges, np.ones(10, dtype=bool), np.array([0, 10]))
    assert tokens.tolist() == [[1] * 10]


def test_zero_and_certain_confidence_are_counted() -> None:
    assert expected_calibration_error(np.array([0.0, 1.0]), np.array([True, False])) == 1.0
    assert expected_calibration_error(np.array([0, 1]), np.array([False, True])) == 0.0


def test_bins_of_samples_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(3)
    lengths = rng.integers(0, 9, 60)
    offsets = np.concatenate([[0], lengths.cumsum()])
    confidence = rng.random(offsets[-1]).astype(np.float32)
    correct = rng.random(offsets[-1]) < 0.5
    bins = calibration_bins(confidence, correct, offsets)
    assert [b.shape for b in bins] == [(60, 10)] * 3
    assert bins[0].sum(1).tolist() == lengths.tolist()
    assert bins[2].sum() == correct.sum()
    whole = expected_calibration_error(confidence, correct)
    assert expected_calibration_error_from_bins(*bins) == pytest.approx(whole)
    # A subset of samples needs no tokens.
    subset = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in range(10)])
    expected = expected_calibration_error(confidence[subset], correct[subset])
    assert expected_calibration_error_from_bins(*(b[:10] for b in bins)) == pytest.approx(expected)


def test_no_tokens_is_no_score() -> None:
    empty = np.array([])
    assert expected_calibration_error(empty, empty.astype(bool)) is None
    assert brier_score(empty, empty.astype(bool)) is None


def test_brier_equals_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    confidence = rng.random(500)
    correct = rng.random(500) < confidence
    assert brier_score(confidence, correct) == pytest.approx(brier_score_loss(correct, confidence))
