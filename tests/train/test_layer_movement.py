"""Movement of layers beside a dense float64 computation, and in whole runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fettle.metrics import layer_activity_summary, layer_and_group
from fettle.runs.records import GroupMovement
from fettle.train.layer_movement import LayerMovement
from tiny_models import tiny_model

peft: Any = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",
    "ignore:fan_in_fan_out is set to False:UserWarning",
)

Places = dict[tuple[int | None, str], tuple[float, float]]


def adapted(kind: str, layers: int = 2, modules: Any = "all-linear", **lora: Any) -> Any:
    """A tiny model in float64 with LoRA around every linear layer."""
    settings = {"r": 3, "lora_alpha": 12, "task_type": "CAUSAL_LM", "target_modules": modules, **lora}
    model = tiny_model(kind, hidden=32, layers=layers, vocab_size=64)
    return peft.get_peft_model(model, peft.LoraConfig(**settings)).double().eval()


def shake(model: Any, seed: int, only: Callable[[str], bool] = lambda name: True) -> None:
    """Move what is trained by a random step."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and only(name):
                parameter += 0.1 * torch.randn_like(parameter)


def updated_modules(model: Any) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            yield name, module


@torch.no_grad()
def dense_weights(model: Any) -> dict[str, torch.Tensor]:
    """What each module multiplies its input with, read off its outputs for unit inputs."""
    weights = {}
    for name, module in updated_modules(model):
        base = module.get_base_layer()
        if isinstance(base, torch.nn.Embedding):
            weights[name] = module(torch.arange(base.num_embeddings))
            continue
        bias = getattr(base, "bias", None)
        rows = module(torch.eye(module.in_features, dtype=torch.float64))
        weights[name] = rows if bias is None else rows - bias
    return weights


def dense_places(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> Places:
    squares: dict[tuple[int | None, str], list[float]] = {}
    for name, was in before.items():
        own = squares.setdefault(layer_and_group(name), [0.0, 0.0])
        own[0] += float((after[name] - was).square().sum())
        own[1] += float(was.square().sum())
    return {place: (moved**0.5, weight**0.5) for place, (moved, weight) in squares.items()}


def assert_equal(groups: list[GroupMovement], expected: Places, rel: float = 1e-6) -> None:
    assert {(g.layer, g.group) for g in groups} == set(expected)
    for group in groups:
        moved, weight = expected[group.layer, group.group]
        assert moved > 0
        assert group.movement == pytest.approx(moved, rel=rel)
        assert group.weight_norm == pytest.approx(weight, rel=rel)
        assert group.relative == pytest.approx(moved / weight, rel=rel)


@pytest.mark.parametrize("begun", [False, True], ids=["B0 zero", "B0 set"])
@pytest.mark.parametrize("way", ["plain", "rslora", "dora"])
@pytest.mark.parametrize("kind", ["qwen3", "gpt2", "gpt_neox", "phi"])
def test_low_rank_movement_is_that_of_the_dense_weights(kind: str, way: str, begun: bool) -> None:
    model = adapted(kind, use_rslora=way == "rslora", use_dora=way == "dora")
    if begun:
        shake(model, 1)
    before = dense_weights(model)
    movement = LayerMovement(model)
    assert movement.method == "lora"
    shake(model, 2)
    groups = movement.measure()
    assert_equal(groups, dense_places(before, dense_weights(model)))
    assert {(g.layer, g.group) for g in groups} == {(i, g) for i in (0, 1) for g in ("qkv", "o", "mlp")}


def test_embeddings_and_different_ranks_are_measured_too() -> None:
    model = adapted("llama", modules=["embed_tokens", "q_proj", "down_proj"], rank_pattern={"q_proj": 5})
    before = dense_weights(model)
    movement = LayerMovement(model)
    shake(model, 3)
    expected = dense_places(before, dense_weights(model))
    assert (None, "other") in expected
    assert_equal(movement.measure(), expected)


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_a_start_that_splits_the_weight_counts_from_the_whole_weight(start: str) -> None:
    torch.manual_seed(0)
    model = adapted("llama", init_lora_weights=start)
    before = dense_weights(model)
    whole = dict(tiny_model("llama", hidden=32, layers=2, vocab_size=64).named_modules())
    for name, weight in before.items():
        own = whole[name.removeprefix("base_model.model.")].weight
        assert torch.allclose(weight.T.float(), own, atol=1e-5)
    movement = LayerMovement(model)
    assert all(group.movement == 0.0 for group in movement.measure())
    shake(model, 4)
    assert_equal(movement.measure(), dense_places(before, dense_weights(model)))


def test_fused_experts_are_measured_expert_by_expert() -> None:
    transformers: Any = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Qwen3MoeConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, moe_intermediate_size=8, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, num_experts=4, num_experts_per_tok=2,
    )  # fmt: skip
    settings = peft.LoraConfig(
        r=2, lora_alpha=6, target_modules=["q_proj"],
        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
    )  # fmt: skip
    model = peft.get_peft_model(transformers.Qwen3MoeForCausalLM(config), settings).double()

    def deltas() -> dict[str, torch.Tensor]:
        found = {}
        for name, module in updated_modules(model):
            own = f"{name}.{getattr(module, 'parameter_name', '')}"
            found[own] = module.get_delta_weight("default").detach()
        return found

    shake(model, 5)
    movement, before = LayerMovement(model), deltas()
    shake(model, 6)
    after = deltas()
    assert len(before) == 6
    groups = {(g.layer, g.group): g for g in movement.measure()}
    assert set(groups) == {(i, g) for i in (0, 1) for g in ("qkv", "mlp")}
    for (layer, group), (moved, _) in dense_places(before, after).items():
        assert groups[layer, group].movement == pytest.approx(moved, rel=1e-6)
        assert groups[layer, group].modules == (2 if group == "mlp" else 1)


def test_weights_that_are_trained_themselves_are_measured_by_samples() -> None:
    model = tiny_model("llama", hidden=64, layers=2, vocab_size=64).double()
    exact, sampled = LayerMovement(model, samples=10**9), LayerMovement(model, samples=1024)
    assert exact.method == "full"
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.ndim > 1}
    shake(model, 7, only=lambda name: "layers.0" not in name)
    torch.manual_seed(8)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layers.0" in name and parameter.ndim > 1:
                parameter += 1e-3 * torch.randn_like(parameter)
    after = dict(model.named_parameters())
    expected = dense_places(before, {name: after[name].detach() for name in before})
    assert_equal(exact.measure(), expected, rel=1e-9)
    assert_equal(sampled.measure(), expected, rel=0.08)  # 1024 entries a weight: 1 / sqrt(1024) = 3 %


def test_a_model_at_rest_has_moved_exactly_nowhere() -> None:
    for way in ("plain", "dora"):
        model = adapted("qwen3", use_dora=way == "dora")
        shake(model, 9)
        assert [g.movement for g in LayerMovement(model).measure()] == [0.0] * 6


def test_one_unit_in_the_last_place_is_seen() -> None:
    model = adapted("llama")
    shake(model, 10)
    movement = LayerMovement(model)
    factor = model.base_model.model.model.layers[1].self_attn.o_proj.lora_B["default"].weight
    with torch.no_grad():
        factor[0, 0] = torch.nextafter(factor[0, 0], torch.tensor(9.0, dtype=torch.float64))
    moved = {(g.layer, g.group) for g in movement.measure() if g.movement > 0}
    assert moved == {(1, "o")}


def test_gradients_by_layer_are_those_before_clipping() -> None:
    model = adapted("qwen3")
    shake(model, 11)
    movement = LayerMovement(model)
    ids = torch.randint(0, 64, (2, 12), generator=torch.Generator().manual_seed(0))
    model(input_ids=ids, labels=ids).loss.backward()
    expected: dict[Any, float] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            place = layer_and_group(name.split(".lora_")[0])
            expected[place] = expected.get(place, 0.0) + float(parameter.grad.square().sum())
    trained = [p for p in model.parameters() if p.requires_grad]
    total = float(torch.nn.utils.clip_grad_norm_(trained, 1e-3))
    movement.read_gradients(total)
    found = {(g.layer, g.group): g.grad_norm for g in movement.measure()}
    assert found == {place: pytest.approx(square**0.5, rel=1e-6) for place, square in expected.items()}
    assert {g.grad_norm for g in movement.measure()} == {None}, "each reading counts once"
    movement.read_gradients(None)
    assert {g.grad_norm for g in movement.measure()} == {None}


@pytest.mark.parametrize("begun", [False, True], ids=["B0 zero", "B0 set"])
@pytest.mark.parametrize("way", ["plain", "dora", "full"])
def test_the_start_comes_back_from_a_checkpoint(tmp_path: Path, way: str, begun: bool) -> None:
    model = tiny_model("llama") if way == "full" else adapted("llama", use_dora=way == "dora")
    if begun:
        shake(model, 12)
    first = LayerMovement(model)
    shake(model, 13)
    expected = first.measure()
    first.save(tmp_path)
    second = LayerMovement(model)
    assert {g.movement for g in second.measure()} != {g.movement for g in expected}
    assert second.restore(tmp_path, 7)
    assert second.measure() == expected
    assert second.activity(9).since_step == 0


def test_a_checkpoint_that_does_not_tell_starts_the_count_anew(tmp_path: Path) -> None:
    LayerMovement(adapted("llama", layers=1)).save(tmp_path)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "layer_start.pt").write_bytes((tmp_path / "layer_start.pt").read_bytes()[:500])
    model = adapted("llama")
    shake(model, 14)
    for folder in (tmp_path, tmp_path / "torn", tmp_path / "nowhere"):
        movement = LayerMovement(model)
        assert not movement.restore(folder, 7)
        activity = movement.activity(9)
        assert activity is not None
        assert activity.since_step == 7
        assert {group.movement for group in activity.groups} == {0.0}


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that is computed."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        view = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
        for tensor in out if isinstance(out, (list, tuple)) else [out]:
            if isinstance(tensor, torch.Tensor) and not view:
                self.elements = max(self.elements, tensor.numel())
        return out


@pytest.mark.parametrize("begun", [False, True], ids=["B0 zero", "B0 set"])
def test_no_update_is_formed_and_no_weight_is_copied(begun: bool) -> None:
    model = adapted("llama", r=2)
    if begun:
        shake(model, 16)
    movement = LayerMovement(model)
    movement.measure()  # the first one reads the frozen weights, a block at a time
    shake(model, 17)
    with Largest() as largest:
        movement.measure()
    # Not even that of o_proj, [32, 32]; the largest are all factors of one shape, stacked.
    assert 0 < largest.elements < 32 * 32


@pytest.mark.parametrize("way", ["plain", "dora"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_half_precision_weights_are_measured_as_closely(way: str, dtype: Any) -> None:
    model = adapted("qwen3", use_dora=way == "dora").to(dtype)
    shake(model, 18)
    exact_one = adapted("qwen3", use_dora=way == "dora")
    exact_one.load_state_dict(model.state_dict())
    movement, reference = LayerMovement(model), dense_weights(exact_one)
    shake(model, 19)
    exact_one.load_state_dict(model.state_dict())
    assert_equal(movement.measure(), dense_places(reference, dense_weights(exact_one)), rel=1e-5)


def test_nothing_is_copied_where_the_update_begins_at_zero(tmp_path: Path) -> None:
    LayerMovement(adapted("llama", r=16)).save(tmp_path)
    assert (tmp_path / "layer_start.pt").stat().st_size < 8_000


def test_weights_that_are_frozen_are_not_called_dead() -> None:
    model = tiny_model("llama")
    model.model.layers[0].requires_grad_(False)
    assert {g.layer for g in LayerMovement(model).measure()} == {1, None}


def test_an_adapter_that_gets_no_gradient_is_dead() -> None:
    model = adapted("llama")
    for name, parameter in model.named_parameters():
        if "layers.1." in name:
            parameter.requires_grad_(False)
    movement = LayerMovement(model)
    shake(model, 15)
    summary = layer_activity_summary(movement.measure())
    assert summary["dead"] == [1]
    assert [row["layer"] for row in summary["top"]] == [0]


@pytest.mark.parametrize("kind", ["adalora", "ia3"])
def test_other_adapters_are_not_mistaken_for_lora(kind: str) -> None:
    model = tiny_model("llama", hidden=32)
    if kind == "adalora":
        config = peft.AdaLoraConfig(target_modules=["q_proj"], total_step=10, init_r=4, target_r=2)
    else:
        config = peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])
    model = peft.get_peft_model(model, config)
    groups = LayerMovement(model).measure()
    assert all(np.isfinite(g.movement) for g in groups)
    assert [g.group for g in groups] == ([] if kind == "adalora" else ["qkv", "mlp"] * 2)
