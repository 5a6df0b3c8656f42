"""The tiled head: online sums over slices of the vocabulary against distributions in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fettle import Sequence, score
from fettle.scoring import LMHead
from fettle.scoring.statistics import TokenStatistics, logit_statistics, token_statistics
from tiny_models import tiny_model


def exact_logits(hidden: torch.Tensor, head: LMHead) -> torch.Tensor:
    logits = hidden.double() @ head.weight.double().T
    if head.bias is not None:
        logits = logits + head.bias.double()
    logits = logits * head.scale
    return logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)


def assert_exact(got: TokenStatistics, logits: torch.Tensor, targets: torch.Tensor, tolerance: float) -> None:
    exact = torch.distributions.Categorical(logits=logits)
    torch.testing.assert_close(got.logprob, exact.log_prob(targets), atol=tolerance, rtol=1e-6)
    torch.testing.assert_close(got.entropy, exact.entropy(), atol=tolerance, rtol=0)
    torch.testing.assert_close(got.confidence, exact.probs.amax(-1), atol=tolerance, rtol=0)
    # Where float32 cannot tell two logits apart, either is the largest.
    largest = logits.gather(1, got.predicted.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(largest, logits.amax(-1), atol=tolerance / 10, rtol=1e-6)


# Positions and vocabulary stand on both sides of the tile's edges.
@pytest.mark.parametrize(("positions", "vocabulary"), [(1, 2), (3, 1000), (700, 5000), (1030, 2049)])
@pytest.mark.parametrize(
    ("bias", "scale", "softcap"),
    [(False, 1.0, None), (True, 1.0, None), (True, 0.25, None), (True, 2.0, 5.0)],
)
def test_every_head(positions: int, vocabulary: int, bias: bool, scale: float, softcap: float | None) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(positions, 16)
    head = LMHead(torch.randn(vocabulary, 16), torch.randn(vocabulary) if bias else None, scale, softcap)
    targets = torch.randint(0, vocabulary, (positions,))
    assert_exact(token_statistics(hidden, head, targets), exact_logits(hidden, head), targets, 2e-5)


@pytest.mark.parametrize("offset", [-3000.0, -60.0, 0.0, 60.0, 3000.0])
@pytest.mark.parametrize("spread", [0.0, 1.0, 60.0])
def test_large_logits_neither_overflow_nor_vanish(offset: float, spread: float) -> None:
    """GPT-2's logits lie near -100; a maximum may come late or early, by hundreds."""
    torch.manual_seed(1)
    bias = offset + spread * torch.randn(9000)
    bias[8500] += 2 * spread
    head = LMHead(torch.randn(9000, 4), bias)
    hidden, targets = torch.randn(40, 4), torch.randint(0, 9000, (40,))
    logits = (hidden @ head.weight.T + bias).double()  # the float32 sums themselves are exact enough
    tolerance = 1e-3 if abs(offset) > 100 else 2e-4
    assert_exact(token_statistics(hidden, head, targets), logits, targets, tolerance)


def test_confident_tokens_keep_their_digits() -> None:
    """log p near zero: e.g. 1e-6 must not be rounded away beside logits near 30."""
    weight = torch.zeros(100, 1)
    weight[7] = 1.0
    hidden = torch.tensor([[10.0], [18.0], [35.0]])
    got = token_statistics(hidden, LMHead(weight), torch.full((3,), 7))
    expected = torch.log_softmax(hidden.double() @ weight.double().T, -1)[:, 7]
    torch.testing.assert_close(got.logprob, expected, atol=2e-7, rtol=1e-3)
    assert (got.logprob <= 0).all()
    assert (got.entropy >= 0).all()


def test_of_equal_logits_the_first_wins() -> None:
    weight = torch.zeros(7000, 2)
    weight[[40, 41, 3000, 6999], 0] = 1.0
    hidden = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    expected = (hidden @ weight.T).argmax(-1)
    assert expected.tolist() == [40, 0, 0]
    targets = torch.zeros(3, dtype=torch.long)
    assert torch.equal(token_statistics(hidden, LMHead(weight), targets).predicted, expected)
    assert torch.equal(logit_statistics(hidden @ weight.T, targets).predicted, expected)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_logit_that_is_not_finite_shows_in_its_position_alone(bad: float) -> None:
    torch.manual_seed(0)
    hidden, targets = torch.randn(5, 4), torch.arange(5)
    head = LMHead(torch.randn(6000, 4))
    hidden[2, 1] = bad
    got = token_statistics(hidden, head, targets)
    for column in (got.logprob, got.confidence, got.entropy):
        assert column.isnan().tolist() == [False, False, True, False, False]


def test_a_masked_entry_is_no_failure() -> None:
    """A bias of -inf takes an entry out of the vocabulary: probability zero, the rest is as without it."""
    torch.manual_seed(0)
    hidden, weight = torch.randn(6, 4), torch.randn(3000, 4)
    bias = torch.zeros(3000)
    bias[2500:] = -torch.inf
    targets = torch.randint(0, 2500, (6,))
    got = token_statistics(hidden, LMHead(weight, bias), targets)
    assert_exact(got, exact_logits(hidden, LMHead(weight[:2500])), targets, 2e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_summed_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(50, 64).to(dtype), torch.randn(3000, 64).to(dtype)
    targets = torch.randint(0, 3000, (50,))
    head = LMHead(weight)
    assert_exact(token_statistics(hidden, head, targets), exact_logits(hidden, head), targets, 5e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_exact(token_statistics(hidden, head, targets), exact_logits(hidden, head), targets, 5e-5)


def test_a_lowered_precision_of_products_is_not_used() -> None:
    torch.manual_seed(0)
    hidden, head = torch.randn(50, 64), LMHead(torch.randn(3000, 64))
    targets = torch.randint(0, 3000, (50,))
    torch.set_float32_matmul_precision("medium")
    try:
        got = token_statistics(hidden, head, targets)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert_exact(got, exact_logits(hidden, head), targets, 5e-5)


class Largest(TorchDispatchMode):
    """The largest tensor that any operation returns, in bytes, views of the weights left out."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.bytes = 0
        self.weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in self.weights:
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_tensor_spans_the_vocabulary(dtype: torch.dtype) -> None:
    """Completion tokens x vocabulary would be 160 MB; one tile is 2 MB, a slice of the weights less."""
    model = tiny_model("qwen3", vocab_size=50_000, hidden=32).to(dtype)
    generator = np.random.default_rng(0)
    ids = generator.integers(0, 50_000, (20, 60))
    sequences = [Sequence(row, np.arange(60) >= 20) for row in ids]
    score(model, sequences[:1])  # the probe forms the model's own logits at a few positions
    with Largest(model) as largest:
        score(model, sequences)
    assert largest.bytes <= 4 << 20
