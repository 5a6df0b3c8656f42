"""Networks trained together: like one trained alone, kept where they win, dropped where they do not."""

from dataclasses import replace

import numpy as np
import torch
from scipy import sparse

from fettle.lens.mlp import MlpLenses, compare_mlp, fit_mlp
from fettle.lens.problem import LensProblem
from fettle.lens.ridge import fit_ridge
from lens_problems import clusters


def bent() -> LensProblem:
    """Concept 0 looks like 1 or 2 but for one feature, large on either side: no line parts it off."""
    problem = clusters(concepts=4, texts=160, features=12, distance=9.0, per_group=2)
    owner = problem.positive.toarray().argmax(1)
    features = problem.features.copy()
    rng = np.random.default_rng(0)
    features[:, 0] = rng.normal(0, 1, owner.size)
    shown, like = np.flatnonzero(owner == 0), np.flatnonzero((owner == 1) | (owner == 2))
    features[shown] = features[rng.choice(like, shown.size)]
    features[shown, 0] = 5.0 * rng.choice([-1, 1], shown.size)
    return problem.with_features(features.astype(np.float32))


def alone(networks: MlpLenses, k: int) -> torch.nn.Module:
    """One of the networks as torch.nn modules."""
    layers: list[torch.nn.Module] = []
    for w, b in zip(networks.weights, networks.biases, strict=True):
        linear = torch.nn.Linear(w.shape[1], w.shape[2])
        linear.weight.data, linear.bias.data = w[k].T, b[k, 0]
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def test_networks_are_kept_where_they_beat_the_line_on_groups_neither_saw() -> None:
    rows = bent().rows("train")
    crooked, clear = compare_mlp(rows, fit_ridge(rows, 0.1), [0, 3])
    assert (crooked.lens, clear.lens) == (0, 3)
    assert crooked.kept
    assert crooked.mlp_auroc > 0.85
    assert crooked.linear_auroc < 0.7
    assert clear.linear_auroc > 0.99
    assert not clear.kept


def test_scores_and_directions_are_those_of_each_network() -> None:
    problem = bent()
    rows, test = problem.rows("train"), problem.rows("test")
    networks = fit_mlp(rows, [0, 2])
    assert [tuple(w.shape) for w in networks.weights] == [(2, 12, 128), (2, 128, 64), (2, 64, 1)]
    scores = networks.scores(test.features)
    states = torch.from_numpy(networks.standard.apply(test.features)).requires_grad_()
    for k in range(2):
        own = alone(networks, k)(states)[:, 0]
        np.testing.assert_allclose(scores[:, k], own.detach().numpy(), atol=1e-4)
        (gradient,) = torch.autograd.grad(own.sum(), states)
        expected = gradient.numpy().mean(0) / networks.standard.deviation
        np.testing.assert_allclose(networks.directions(test.features)[k], expected, atol=1e-5)
    positive = scores[test.positive[0], 0].mean()
    assert positive > scores[test.negative(0), 0].mean() + 1


def test_the_same_seed_gives_the_same_networks_and_leaves_the_random_state() -> None:
    rows = bent().rows("train")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, other = (fit_mlp(rows, [0, 1], seed=3) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(one.weights, other.weights, strict=True):
        assert torch.equal(a, b)


def test_texts_of_relatives_train_no_network() -> None:
    problem = bent()
    owner = problem.positive.toarray().argmax(1)
    excluded = np.zeros((owner.size, 4), dtype=bool)
    excluded[owner == 3, 0] = True
    rows = replace(problem, excluded=sparse.csr_array(excluded)).rows("train")
    features = rows.features.copy()
    features[rows.excluded[0]] = 1e4  # Would be seen at once.
    spoiled = replace(rows, features=features)
    assert np.isfinite(fit_mlp(spoiled, [0]).scores(rows.features)).all()
    from fettle.lens.mlp import _sampled

    index, positives = _sampled(rows, [0], 0)[0]
    assert positives == rows.positive[0].size
    assert not np.isin(index, rows.excluded[0]).any()
    assert np.unique(index).size == index.size == 2 * positives
