"""Every family, layout and batching gives the numbers of the plain padded loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fettle import Scores, Sequence, score
from fettle.scoring import locate_head, noise_floor
from fettle.scoring.route import Route, choose_route
from scoring.reference import Plain, plain_scores, random_sequences
from tiny_models import KINDS, tiny_model


def assert_equal(scores: Scores, plain: Plain, tolerance: float = 1e-4) -> None:
    for name in ("logprob", "confidence", "entropy"):
        np.testing.assert_allclose(getattr(scores, name), getattr(plain, name), atol=tolerance, rtol=0)
    np.testing.assert_array_equal(scores.predicted, plain.predicted)


@pytest.mark.parametrize("kind", KINDS)
def test_families(kind: str) -> None:
    model = tiny_model(kind)
    sequences = random_sequences(prefix=30)
    scores = score(model, sequences)
    assert choose_route(model) == Route("packed", "tiled")
    assert_equal(scores, plain_scores(model, sequences, side="right"), 2e-5)
    targets = np.concatenate([s.input_ids[s.loss_mask] for s in sequences])
    np.testing.assert_array_equal(scores.correct, scores.predicted == targets)
    for i in range(len(sequences)):
        part = slice(scores.offsets[i], scores.offsets[i + 1])
        assert scores.tokens[i] == sequences[i].completion_tokens
        assert scores.cross_entropy_sum[i] == pytest.approx(-scores.logprob[part].sum(), abs=1e-12)
        assert scores.exact_match[i] == scores.correct[part].all()
    # The model attends by its own means again.
    assert "fettle" not in model.config._attn_implementation


# Families whose own left padding is right: learned positions and rotary ones.
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("kind", ["qwen3", "gpt2", "gemma2"])
def test_padding_of_the_reference(kind: str, batch: int, side: str) -> None:
    model = tiny_model(kind)
    sequences = random_sequences(16, prefix=20)
    assert_equal(score(model, sequences), plain_scores(model, sequences, side=side, batch=batch))


@pytest.mark.parametrize("batch_tokens", [1, 60, 10_000])
@pytest.mark.parametrize(
    "route",
    [Route("packed", "tiled"), Route("padded", "tiled"), Route("packed", "module"), Route("padded", "module"),
     Route("padded", "kept"), Route("single", "kept"), Route("padded", "full"), Route("single", "full")],
    ids=str,
)  # fmt: skip
def test_routes(route: Route, batch_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("gemma2")
    sequences = random_sequences(prefix=25, seed=1)
    monkeypatch.setattr("fettle.scoring.engine.choose_route", lambda model, layouts: route)
    scores = score(model, sequences, batch_tokens=batch_tokens)
    assert_equal(scores, plain_scores(model, sequences), 2e-5)


def test_input_order() -> None:
    model = tiny_model()
    sequences = random_sequences(20, prefix=20)
    forward, backward = score(model, sequences), score(model, sequences[::-1])
    np.testing.assert_allclose(backward.cross_entropy_sum[::-1], forward.cross_entropy_sum, atol=1e-4)
    np.testing.assert_array_equal(backward.tokens[::-1], forward.tokens)


def test_long_window_and_many_short_neighbours() -> None:
    """Windows reach into a shared prefix, and short segments attend together under one mask."""
    model = tiny_model("mistral", sliding_window=24)
    generator = np.random.default_rng(3)
    prefix = generator.integers(3, 320, 60)
    answers = [generator.integers(3, 320, int(generator.integers(2, 12))) for _ in range(40)]
    sequences = [
        Sequence(np.concatenate([prefix, a]), np.arange(60 + a.size) >= 60) for a in answers
    ] + random_sequences(30, prompt=(2, 6))
    assert_equal(score(model, sequences), plain_scores(model, sequences))


def test_tokens_that_count_lie_in_the_common_part() -> None:
    """Two samples with the same first turn, which carries loss: nothing that counts is shared away."""
    generator = np.random.default_rng(0)
    turn = generator.integers(3, 320, 40)
    mask = np.arange(40) >= 25
    ends = [generator.integers(3, 320, 6) for _ in range(4)]
    sequences = [
        Sequence(np.concatenate([turn, end]), np.concatenate([mask, np.ones(6, bool)])) for end in ends
    ]
    sequences += sequences[:2]  # and duplicates
    model = tiny_model()
    assert_equal(score(model, sequences), plain_scores(model, sequences))


def test_bfloat16_accumulates_in_float32() -> None:
    """Against the same weights in float64: far closer than log-softmax over bfloat16 logits."""
    model = tiny_model("qwen3", hidden=128, vocab_size=2000).to(torch.bfloat16)
    sequences = random_sequences(24, vocabulary=2000)
    scores = score(model, sequences)
    exact = plain_scores(tiny_like(model), sequences)
    with torch.no_grad():
        rounded = np.concatenate([_bfloat16_logprobs(model, s) for s in sequences])
    ours = np.abs(scores.logprob - exact.logprob).mean()
    theirs = np.abs(rounded - exact.logprob).mean()
    assert ours < theirs / 1.5
    # No grid of bfloat16: sums of a few nats would otherwise be multiples of 1/32 and coarser.
    assert np.abs(scores.logprob * 32 % 1).std() > 0.2


def tiny_like(model: Any) -> Any:
    """The same weights in float64."""
    import copy

    return copy.deepcopy(model).double()


def _bfloat16_logprobs(model: Any, s: Sequence) -> np.ndarray:
    at = np.flatnonzero(s.loss_mask)
    logits = model(torch.from_numpy(s.input_ids)[None]).logits[0, at - 1]
    assert logits.dtype == torch.bfloat16
    return logits.log_softmax(-1)[range(at.size), s.input_ids[at]].double().numpy()


def test_noise_floor_is_measured() -> None:
    sequences = random_sequences(12)
    exact = noise_floor(tiny_model(), sequences)
    assert exact is not None
    assert 0 <= exact.cross_entropy <= exact.token < 1e-5
    half = noise_floor(tiny_model().to(torch.bfloat16), sequences)
    assert half is not None
    assert exact.token < half.token < 0.3
    assert noise_floor(tiny_model(), [Sequence([5, 6, 7], [0, 0, 0])]) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_takes_the_fast_route(dtype: torch.dtype) -> None:
    model = tiny_model().to(dtype)
    assert choose_route(model) == Route("packed", "tiled")
    head = locate_head(model)
    assert head is not None
    assert head.weight.dtype == dtype
