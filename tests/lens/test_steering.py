"""Steering: the evidence moves by what was asked, in any dtype, while generating, and leaves no trace."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fettle.errors import DataError, ModelError
from fettle.lens.activations import pad, run_batch
from fettle.lens.direction import Direction, lens_direction
from fettle.lens.lens_pack import LensPack
from fettle.lens.linear import LinearLenses
from fettle.lens.spec import ExtractionSpec
from fettle.lens.steering import Add, Nudge, Remove, steered, steering
from fettle.lens.steering_sweep import sweep
from fettle.lens.tokens import Tokens
from tiny_models import tiny_model

KINDS = ("qwen3", "gpt2", "gemma2", "gpt_neox", "mistral")


def direction(layer: int = 2, seed: int = 3, width: int = 64) -> Direction:
    rng = np.random.default_rng(seed)
    unit = rng.standard_normal(width)
    unit = (unit / np.linalg.norm(unit)).astype(np.float32)
    return Direction("joy", layer, unit, rng.standard_normal(width).astype(np.float32), 0.8, 0.3)


def texts(count: int = 6) -> list[Tokens]:
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 14, count)
    return [Tokens(rng.integers(3, 320, n), np.arange(n) > 0) for n in lengths]


def hidden(model: Any, layer: int) -> np.ndarray:
    spec = ExtractionSpec(layers=(layer,), pooling="last")
    with torch.no_grad():
        return run_batch(model, pad(texts()), spec)[:, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_added_deviations_are_gained_evidence(kind: str) -> None:
    model, own = tiny_model(kind, layers=3), direction()
    before = own.evidence(hidden(model, 2))
    with steering(model, {2: [Add(own, 1.5)]}):
        after = own.evidence(hidden(model, 2))
        deeper = hidden(model, 3)
    np.testing.assert_allclose(after - before, 1.5, atol=1e-4)
    assert np.abs(deeper - hidden(model, 3)).max() > 1e-3
    np.testing.assert_array_equal(own.evidence(hidden(model, 2)), before)


def test_a_share_of_the_norm_is_what_is_added() -> None:
    model, own = tiny_model(layers=3), direction()
    before = hidden(model, 2)
    with steering(model, {2: [Add(own, 0.1, relative_to="norm")]}):
        after = hidden(model, 2)
    gained = (after - before) @ own.unit
    np.testing.assert_allclose(gained, 0.1 * np.linalg.norm(before, axis=1), rtol=1e-4)


def test_a_removed_direction_is_at_its_mean_and_nothing_else_moves() -> None:
    model, own = tiny_model(layers=3), direction()
    before = hidden(model, 2)
    for share in (1.0, 0.4):
        with steering(model, {2: [Remove(own, share)]}):
            after = hidden(model, 2)
        left = (after - own.mean) @ own.unit
        np.testing.assert_allclose(left, (1 - share) * (before - own.mean) @ own.unit, atol=1e-4)
        across = (after - before) - ((after - before) @ own.unit)[:, None] * own.unit
        np.testing.assert_allclose(across, 0, atol=1e-5)


def test_a_nudge_goes_its_share_of_the_way_to_the_target() -> None:
    model, own = tiny_model(layers=3), direction()
    before = own.evidence(hidden(model, 2))
    with steering(model, {2: [Nudge(own, 4.0, 0.25)]}):
        np.testing.assert_allclose(own.evidence(hidden(model, 2)), before + 0.25 * (4 - before), atol=1e-4)
    with steering(model, {2: [Nudge(own, 4.0, 1.0)]}):
        np.testing.assert_allclose(own.evidence(hidden(model, 2)), 4.0, atol=1e-4)


def test_embeddings_and_several_layers_can_be_steered() -> None:
    model = tiny_model(layers=3)
    first, deeper = direction(0), direction(3, seed=5)
    before = first.evidence(hidden(model, 0))
    with steering(model, {0: [Add(first, 2.0)], 3: [Nudge(deeper, 1.0, 1.0)]}):
        np.testing.assert_allclose(first.evidence(hidden(model, 0)) - before, 2.0, atol=1e-4)
        np.testing.assert_allclose(deeper.evidence(hidden(model, 3)), 1.0, atol=1e-4)
    with pytest.raises(ModelError, match="layer 4"), steering(model, {4: [Add(first, 1.0)]}):
        pass


def test_bfloat16_keeps_the_projection() -> None:
    """From 1 % of the norm on, 99.9 % of what is added arrives."""
    rng = np.random.default_rng(0)
    own = direction(width=2048)
    states = torch.from_numpy(rng.standard_normal((256, 2048)).astype(np.float32)).to(torch.bfloat16)
    unit = torch.from_numpy(own.unit)
    for share in (0.01, 0.1):
        after = steered(states, [Add(own, share, relative_to="norm")])
        assert after.dtype == torch.bfloat16
        gained = ((after.float() - states.float()) @ unit).mean()
        asked = share * states.float().norm(dim=1).mean()
        assert float(gained / asked) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_generated_token_is_steered(dtype: torch.dtype) -> None:
    model = tiny_model(layers=3).to(dtype)
    own = direction()
    seen: list[float] = []
    prompt = torch.tensor([[5, 6, 7, 8]])
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "min_new_tokens": 5}
    plain = model.generate(prompt, **options)
    with steering(model, {2: [Nudge(own, 6.0, 1.0)]}):
        block = model.model.layers[1]
        hook = block.register_forward_hook(
            lambda _, __, out: seen.append(
                float(own.evidence((out if torch.is_tensor(out) else out[0])[0, -1:].float().numpy())[0])
            )
        )
        changed = model.generate(prompt, **options)
        hook.remove()
    assert len(seen) == 5
    np.testing.assert_allclose(seen, 6.0, atol=0.1)
    assert changed.tolist() != plain.tolist()
    assert model.generate(prompt, **options).tolist() == plain.tolist()


def test_nothing_stays_behind_after_an_error() -> None:
    model = tiny_model()
    with pytest.raises(RuntimeError, match="stop"), steering(model, {1: [Add(direction(1), 1.0)]}):
        raise RuntimeError("stop")
    assert not any(block._forward_hooks for block in model.model.layers)


def pack(grade: str) -> LensPack:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((2, 64)).astype(np.float32)
    mean, bias = rng.standard_normal((2, 64)).astype(np.float32)[0], np.array([0.1, 0.2], np.float32)
    spread = np.array([0.5, 2.0], np.float32)
    numbers = np.array([0.3, 0.4], np.float32)
    return LensPack(
        ["joy", "fear"], 2, {}, LinearLenses(mean, weights, bias), numbers, numbers, spread,
        [None, None], [{"grade": grade}, {}],
    )  # fmt: skip


def test_the_direction_of_a_lens_carries_its_evidence() -> None:
    whole = pack("B")
    own = lens_direction(whole, "joy")
    features = np.random.default_rng(1).standard_normal((10, 64)).astype(np.float32)
    np.testing.assert_allclose(own.evidence(features), whole.evidence(features)[:, 0], atol=1e-4)
    assert np.linalg.norm(own.unit) == pytest.approx(1)
    moved = features + own.deviation * own.unit
    np.testing.assert_allclose(own.evidence(moved) - own.evidence(features), 1, atol=1e-4)


def test_weak_and_unknown_lenses_do_not_steer_unless_told_to() -> None:
    with pytest.raises(DataError, match="'joy' is graded C"):
        lens_direction(pack("C"), "joy")
    assert lens_direction(pack("C"), "joy", any_grade=True).concept == "joy"
    with pytest.raises(DataError, match="'fear' is graded U"):
        lens_direction(pack("A"), "fear")
    with pytest.raises(DataError, match="no lens 'rage'"):
        lens_direction(pack("A"), "rage")
    none = pack("A")
    flat = replace(none, lenses=replace(none.lenses, weights=np.zeros((2, 64), np.float32)))
    with pytest.raises(DataError, match="no direction"):
        lens_direction(flat, "joy")


def test_a_sweep_shows_the_evidence_moved_and_its_price() -> None:
    model, own = tiny_model(layers=3, seed=1), direction()
    spec = ExtractionSpec(layers=(2,))
    found = sweep(model, own, lambda s: Add(own, s), [0.0, 1.0, 20.0], texts(), spec)
    still, small, large = found
    assert still.moved is not None
    assert (still.moved.value, still.perplexity_ratio) == (0.0, pytest.approx(1.0))
    assert small.moved is not None
    assert small.moved.value == pytest.approx(1.0, abs=1e-4)
    assert large.evidence is not None
    assert small.evidence is not None
    assert large.evidence.value - small.evidence.value == pytest.approx(19, abs=1e-3)
    assert large.cross_entropy is not None
    assert still.cross_entropy is not None
    assert large.perplexity_ratio == pytest.approx(
        np.exp(large.cross_entropy.value - still.cross_entropy.value)
    )
    assert abs(np.log(large.perplexity_ratio)) > abs(np.log(small.perplexity_ratio))
    earlier = sweep(model, own, lambda s: Add(own, s), [1.0], texts(), spec, at=1)[0]
    assert earlier.moved is not None
    assert earlier.moved.value != pytest.approx(1.0, abs=1e-3)
