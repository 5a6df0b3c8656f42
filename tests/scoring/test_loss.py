"""Loss and gradients at label positions against plain autograd."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fettle import Sequence
from fettle.scoring import LMHead, completion_loss, fused_cross_entropy, loss
from scoring.reference import random_sequences
from tiny_models import KINDS, tiny_model


def plain_loss(hidden: torch.Tensor, head: LMHead, targets: torch.Tensor) -> torch.Tensor:
    logits = hidden @ head.weight.T
    logits = (logits if head.bias is None else logits + head.bias) * head.scale
    logits = logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)
    return cross_entropy(logits, targets, reduction="sum")


HEADS = [(False, 1.0, None), (True, 1.0, None), (False, 0.3, None), (True, 1.7, 4.0)]


@pytest.mark.parametrize(("bias", "scale", "softcap"), HEADS)
def test_gradcheck(bias: bool, scale: float, softcap: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "CHUNK_BYTES", 0)  # 16 positions at a time
    torch.manual_seed(0)
    hidden = torch.randn(19, 5, dtype=torch.double, requires_grad=True)
    weight = torch.randn(11, 5, dtype=torch.double, requires_grad=True)
    biases = torch.randn(11, dtype=torch.double, requires_grad=True) if bias else None
    targets = torch.randint(0, 11, (19,))

    def summed(h: torch.Tensor, w: torch.Tensor, *b: torch.Tensor) -> torch.Tensor:
        return fused_cross_entropy(h, LMHead(w, b[0] if b else None, scale, softcap), targets)

    inputs = (hidden, weight) if biases is None else (hidden, weight, biases)
    assert torch.autograd.gradcheck(summed, inputs)


@pytest.mark.parametrize(("bias", "scale", "softcap"), HEADS)
@pytest.mark.parametrize("trainable", [True, False])
def test_equals_plain_autograd(bias: bool, scale: float, softcap: float | None, trainable: bool) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(300, 32, requires_grad=True)
    weight = torch.randn(2000, 32, requires_grad=trainable)
    biases = torch.randn(2000, requires_grad=trainable) if bias else None
    head, targets = LMHead(weight, biases, scale, softcap), torch.randint(0, 2000, (300,))
    leaves = [t for t in (hidden, weight, biases) if t is not None and t.requires_grad]
    ours, theirs = fused_cross_entropy(hidden, head, targets), plain_loss(hidden, head, targets)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    # Scaled, as an accumulated step scales it.
    for got, expected in zip(
        torch.autograd.grad(ours * 0.25, leaves), torch.autograd.grad(theirs * 0.25, leaves), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert fused_cross_entropy(hidden.detach(), LMHead(weight.detach()), targets).grad_fn is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_gets_the_gradient_of_plain_training(kind: str) -> None:
    """Tied and untied heads, biases, scales, caps, windows: every parameter, against whole-row logits."""
    model = tiny_model(kind).train()
    sequences = random_sequences(10, seed=2)
    ours = gradients(model, completion_loss(model, sequences))
    expected = torch.zeros(())
    for s in sequences:
        logits = model(torch.from_numpy(s.input_ids)[None]).logits[0, :-1]
        labels = torch.from_numpy(np.where(s.loss_mask[1:], s.input_ids[1:], -100))
        expected = expected + cross_entropy(logits, labels, reduction="sum")
    theirs = gradients(model, expected)
    assert_close(ours, theirs)


def assert_close(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, gradient in got.items():
        largest = float(expected[name].abs().max())
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-4 * largest)


def gradients(model: Any, value: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    value.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_how_a_step_is_split_changes_nothing() -> None:
    model = tiny_model().train()
    sequences = random_sequences(12, seed=3)
    whole = gradients(model, completion_loss(model, sequences))
    halves = sum((completion_loss(model, part) for part in (sequences[:5], sequences[5:])), torch.zeros(()))
    assert_close(gradients(model, halves), whole)


def test_recomputed_layers_see_the_same_attention() -> None:
    """Under gradient checkpointing layers run again in the backward pass."""
    model = tiny_model(attention_dropout=0.0).train()
    sequences = random_sequences(8)
    expected = gradients(model, completion_loss(model, sequences))
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": False})
    got = gradients(model, completion_loss(model, sequences))
    assert_close(got, expected)


@pytest.mark.parametrize("weights", [torch.bfloat16, torch.float32])
def test_mixed_precision(weights: torch.dtype) -> None:
    """bfloat16 weights, and float32 weights under autocast: near float64, and nearer than plain autocast."""
    torch.manual_seed(0)
    base = tiny_model(hidden=128, vocab_size=4000)
    sequences = random_sequences(16, vocabulary=4000)
    with torch.no_grad():
        exact = float(completion_loss(copy.deepcopy(base).double(), sequences))
    model = base.to(weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = completion_loss(model, sequences)
    value.backward()
    assert value.dtype == torch.float32
    assert abs(float(value.detach()) - exact) / exact < 2e-3
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.dtype == weights
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().sum() > 0


def test_attention_dropout_is_drawn_while_training() -> None:
    model = tiny_model(attention_dropout=0.5)
    sequences = random_sequences(6)
    model.train()
    torch.manual_seed(0)
    with torch.no_grad():
        assert float(completion_loss(model, sequences)) != float(completion_loss(model, sequences))
        model.eval()
        assert float(completion_loss(model, sequences)) == float(completion_loss(model, sequences))


def test_a_batch_without_a_label_costs_nothing() -> None:
    model = tiny_model().train()
    some = random_sequences(4)
    value = completion_loss(model, [*some, Sequence([5, 6, 7], [0, 0, 0])])
    torch.testing.assert_close(value, completion_loss(model, some))
