"""Models with adapters: scored as they are, by the fastest route that allows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import peft
import pytest
import torch

from fettle import score
from fettle.scoring import completion_loss, locate_head
from fettle.scoring.route import Route, choose_route
from scoring.reference import plain_scores, random_sequences
from tiny_models import tiny_model

# PEFT asks for a property that Transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def adapted(config: Any, kind: str = "llama") -> Any:
    model = peft.get_peft_model(tiny_model(kind), config)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:  # an adapter begins as no change: give it one
            parameter.data += 0.1 * torch.randn_like(parameter)
            assert name
    return model.eval()


def assert_scored(model: Any, route: Route) -> None:
    sequences = random_sequences(16, prefix=20)
    scores = score(model, sequences)
    assert choose_route(model) == route
    plain = plain_scores(model, sequences)
    np.testing.assert_allclose(scores.logprob, plain.logprob, atol=1e-4, rtol=0)
    np.testing.assert_allclose(scores.entropy, plain.entropy, atol=1e-4, rtol=0)
    np.testing.assert_array_equal(scores.predicted, plain.predicted)


def lora(**changes: Any) -> Any:
    return peft.LoraConfig(r=4, lora_alpha=8, target_modules=LAYERS, task_type="CAUSAL_LM", **changes)


@pytest.mark.parametrize("changes", [{}, {"use_rslora": True}, {"use_dora": True}])
def test_lora_on_every_projection(changes: dict[str, Any]) -> None:
    assert_scored(adapted(lora(**changes)), Route("packed", "tiled"))


def test_lora_in_bfloat16_keeps_float32_adapters() -> None:
    model = peft.get_peft_model(tiny_model("llama").to(torch.bfloat16), lora()).eval()
    sequences = random_sequences(12)
    scores = score(model, sequences)
    assert choose_route(model) == Route("packed", "tiled")
    exact = plain_scores(tiny_model("llama").to(torch.bfloat16).double(), sequences)
    assert np.abs(scores.logprob - exact.logprob).mean() < 0.02


def test_switching_adapters_off_and_on_is_seen() -> None:
    """One model object, scored with one adapter, with another, and with none."""
    model = adapted(lora())
    model.add_adapter("other", lora())
    sequences = random_sequences(8)
    with_default = score(model, sequences)
    model.set_adapter("other")
    with_other = score(model, sequences)
    with model.disable_adapter():
        without = score(model, sequences)
        np.testing.assert_allclose(without.logprob, plain_scores(model, sequences).logprob, atol=1e-4)
    base = score(tiny_model("llama"), sequences)
    np.testing.assert_allclose(without.logprob, base.logprob, atol=1e-4)
    assert np.abs(with_default.logprob - with_other.logprob).max() > 0.01
    np.testing.assert_allclose(with_other.logprob, plain_scores(model, sequences).logprob, atol=1e-4)


def test_a_head_that_is_trained_whole() -> None:
    model = adapted(lora(modules_to_save=["lm_head"]))
    head = locate_head(model)
    assert head is not None
    assert head.weight.requires_grad
    assert_scored(model, Route("packed", "tiled"))
    with model.disable_adapter():
        assert_scored(model, Route("packed", "tiled"))


def test_a_head_with_an_adapter_of_its_own() -> None:
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM")
    model = adapted(config)
    assert locate_head(model) is None
    assert_scored(model, Route("packed", "module"))


@pytest.mark.parametrize(
    "config",
    [
        peft.PromptTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM"),
        peft.PrefixTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM"),
    ],
    ids=["prompt tuning", "prefix tuning"],
)
# PEFT says that it ignores position ids, which the plain reference gives.
@pytest.mark.filterwarnings("ignore:Position ids are not supported")
def test_adapters_that_are_tokens(config: Any) -> None:
    model = adapted(config)
    sequences = random_sequences(10)
    scores = score(model, sequences)
    assert choose_route(model).head in ("kept", "full")
    base = score(tiny_model("llama"), sequences)
    assert np.abs(scores.logprob - base.logprob).max() > 0.01
    for i, s in enumerate(sequences):
        ids = torch.from_numpy(s.input_ids)[None]
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -len(s) :]
        at = np.flatnonzero(s.loss_mask)
        expected = logits[at - 1].log_softmax(-1)[range(at.size), s.input_ids[at]]
        part = scores.logprob[scores.offsets[i] : scores.offsets[i + 1]]
        np.testing.assert_allclose(part, expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("modules", [LAYERS, ["q_proj", "lm_head"]])
def test_adapters_get_their_gradient(modules: list[str]) -> None:
    config = peft.LoraConfig(r=4, target_modules=modules, task_type="CAUSAL_LM", lora_dropout=0.0)
    model = adapted(config).train()
    sequences = random_sequences(8)
    completion_loss(model, sequences).backward()
    ours = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    total = torch.zeros(())
    for s in sequences:
        logits = model(torch.from_numpy(s.input_ids)[None]).logits[0, :-1]
        labels = torch.from_numpy(np.where(s.loss_mask[1:], s.input_ids[1:], -100))
        total = total + torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    total.backward()
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert sorted(ours) == sorted(trained)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-3, atol=1e-3)
