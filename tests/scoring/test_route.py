"""The proof refuses routes that would be wrong, and something is always left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from fettle import score
from fettle.scoring import decoder, route
from fettle.scoring.probe import proved
from fettle.scoring.route import Route, choose_route
from scoring.reference import plain_scores, random_sequences
from tiny_models import tiny_model


def assert_plain(model: Any, count: int = 12) -> None:
    sequences = random_sequences(count, prefix=20)
    scores, plain = score(model, sequences), plain_scores(model, sequences, batch=1)
    np.testing.assert_allclose(scores.logprob, plain.logprob, atol=1e-4, rtol=0)
    np.testing.assert_allclose(scores.entropy, plain.entropy, atol=1e-4, rtol=0)
    np.testing.assert_array_equal(scores.predicted, plain.predicted)


def test_a_recurrent_model_is_never_packed() -> None:
    """State would run from one sequence into the next, though the model takes the same arguments."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    config = transformers.MambaConfig(vocab_size=320, **sizes, **special)
    torch.manual_seed(0)
    model = transformers.MambaForCausalLM(config).eval()
    sequences = random_sequences(8)
    scores = score(model, sequences)
    assert choose_route(model).layout != "packed"
    for i, s in enumerate(sequences):
        with torch.no_grad():
            logits = model(torch.from_numpy(s.input_ids)[None]).logits[0]
        at = np.flatnonzero(s.loss_mask)
        expected = logits[at - 1].log_softmax(-1)[range(at.size), s.input_ids[at]]
        part = scores.logprob[scores.offsets[i] : scores.offsets[i + 1]]
        np.testing.assert_allclose(part, expected.numpy(), atol=1e-4)


def test_attention_of_its_own_is_padded() -> None:
    """Bloom attends without the interface, and by distance rather than position."""
    sizes = {"hidden_size": 64, "n_layer": 2, "n_head": 4}
    config = transformers.BloomConfig(vocab_size=320, initializer_range=0.08, **sizes)
    torch.manual_seed(0)
    model = transformers.BloomForCausalLM(config).eval()
    sequences = random_sequences(8)
    scores = score(model, sequences)
    assert choose_route(model) == Route("padded", "tiled")
    ids = torch.from_numpy(sequences[0].input_ids)[None]
    with torch.no_grad():
        logits = model(ids).logits[0]
    at = np.flatnonzero(sequences[0].loss_mask)
    expected = logits[at - 1].log_softmax(-1)[range(at.size), sequences[0].input_ids[at]]
    np.testing.assert_allclose(scores.logprob[: at.size], expected.numpy(), atol=1e-4)


class OwnCap(transformers.Qwen3ForCausalLM):
    """A family that fettle has never heard of: logits are capped, and no known key says so."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits = 20.0 * torch.tanh(output.logits / 20.0)
        return output


# With fresh weights logits are so small that the cap changes nothing yet: it must be found all the same.
@pytest.mark.parametrize("spread", [0.08, 0.001])
def test_an_unknown_adjustment_of_logits_is_found(spread: float) -> None:
    model = OwnCap(tiny_model(initializer_range=spread).config).eval()
    assert choose_route(model) == Route("padded", "kept")
    model.load_state_dict(tiny_model(initializer_range=0.2).state_dict())
    assert_plain(model)


class Leaking(transformers.LlamaForCausalLM):
    """Mixes a little of the row's mean into every position, as an unmasked state would."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model.norm.register_forward_hook(lambda norm, args, out: out + 1e-5 * out.mean(1, keepdim=True))


def test_a_leak_too_small_for_the_numbers_is_found() -> None:
    model = Leaking(tiny_model("llama").config).eval()
    assert not proved(model, Route("packed", "tiled"))


def test_wrong_recipes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("granite")
    assert proved(model, Route("packed", "tiled"))
    monkeypatch.setattr("fettle.scoring.head.DIVISORS", ())
    assert not proved(model, Route("packed", "tiled"))
    assert not proved(model, Route("padded", "module"))
    assert proved(model, Route("padded", "kept"))


def test_something_is_always_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fettle.scoring.probe._failure", lambda model, route: "refused")
    model = tiny_model()
    assert_plain(model)
    assert choose_route(model) == route.LAST_RESORT


def test_a_route_is_found_once_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Route] = []

    def counting(model: Any, route: Route) -> bool:
        calls.append(route)
        return proved(model, route)

    monkeypatch.setattr("fettle.scoring.probe.proved", counting)
    model = tiny_model()
    for _ in range(3):
        score(model, random_sequences(3))
    assert len(calls) == 1
    model.to(torch.bfloat16)
    score(model, random_sequences(3))
    assert len(calls) == 2


def test_probing_leaves_no_trace() -> None:
    model = tiny_model(attention_dropout=0.3).train()
    model.model.layers[0].eval()
    state, implementation = torch.get_rng_state(), model.config._attn_implementation
    hooks = len(model.model._forward_hooks)
    choose_route(model)
    assert torch.equal(state, torch.get_rng_state())
    assert [m.training for m in (model, model.model, model.model.layers[0])] == [True, True, False]
    assert model.config._attn_implementation == implementation
    assert len(model.model._forward_hooks) == hooks
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler, about torch itself
def test_compiled_and_parallel_wrappers_are_looked_into() -> None:
    model = tiny_model()
    compiled = torch.compile(model, backend="eager")
    assert decoder.unwrapped(compiled) is model
    sequences = random_sequences(4)
    torch._dynamo.utils.counters.clear()
    np.testing.assert_allclose(score(compiled, sequences).logprob, score(model, sequences).logprob, atol=1e-5)
    assert not torch._dynamo.utils.counters["frames"], "it is compiled for each length of the probe"
