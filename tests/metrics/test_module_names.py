"""Where a module stands, for the names of real models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from fettle.metrics import layer_and_group

LLAMA_LIKE = {"q_proj", "k_proj", "v_proj"}, {"o_proj"}, {"gate_proj", "up_proj", "down_proj"}
# Linear modules of a layer by group, as each architecture names them.
NAMES: dict[str, tuple[set[str], set[str], set[str]]] = {
    "Llama": LLAMA_LIKE,
    "Mistral": LLAMA_LIKE,
    "Qwen2": LLAMA_LIKE,
    "Qwen3": LLAMA_LIKE,
    "Gemma": LLAMA_LIKE,
    "Gemma2": LLAMA_LIKE,
    "Phi": ({"q_proj", "k_proj", "v_proj"}, {"dense"}, {"fc1", "fc2"}),
    "Phi3": ({"qkv_proj"}, {"o_proj"}, {"gate_up_proj", "down_proj"}),
    "GPTNeoX": ({"query_key_value"}, {"dense"}, {"dense_h_to_4h", "dense_4h_to_h"}),
    "GPT2": ({"c_attn"}, {"c_proj"}, {"c_fc", "c_proj"}),
    "GPTJ": ({"q_proj", "k_proj", "v_proj"}, {"out_proj"}, {"fc_in", "fc_out"}),
    "GPTNeo": ({"q_proj", "k_proj", "v_proj"}, {"out_proj"}, {"c_fc", "c_proj"}),
    "GPTBigCode": ({"c_attn"}, {"c_proj"}, {"c_fc", "c_proj"}),
    "OPT": ({"q_proj", "k_proj", "v_proj"}, {"out_proj"}, {"fc1", "fc2"}),
    "Bloom": ({"query_key_value"}, {"dense"}, {"dense_h_to_4h", "dense_4h_to_h"}),
    "Falcon": ({"query_key_value"}, {"dense"}, {"dense_h_to_4h", "dense_4h_to_h"}),
    "StableLm": LLAMA_LIKE,
    "Olmo2": LLAMA_LIKE,
    "Cohere": LLAMA_LIKE,
    "Granite": LLAMA_LIKE,
    "Starcoder2": ({"q_proj", "k_proj", "v_proj"}, {"o_proj"}, {"c_fc", "c_proj"}),
    "Mpt": ({"Wqkv"}, {"out_proj"}, {"up_proj", "down_proj"}),
}
HEADS: dict[str, str] = {"GPT2": "GPT2LMHeadModel"}
SIZES = {
    "hidden_size": 32, "n_embd": 32, "d_model": 32, "intermediate_size": 64, "ffn_dim": 64, "n_inner": 64,
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "rotary_dim": 4, "vocab_size": 64, "max_position_embeddings": 64,
    "word_embed_proj_dim": 32, "attention_types": [[["global"], 2]], "pad_token_id": 0,
}  # fmt: skip


def causal_model(name: str) -> Any:
    """Two layers of an architecture with the names of its real weights, without their values."""
    kind = getattr(transformers, f"{name}Config")
    known = set(kind().to_dict()) | set(kind.attribute_map)
    taken = {kind.attribute_map.get(key, key): value for key, value in SIZES.items() if key in known}
    with torch.device("meta"):
        config = kind(**taken)
        return transformers.AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("name", NAMES)
def test_every_linear_module_of_a_layer_has_its_group(name: str) -> None:
    found: dict[str, set[str]] = {"qkv": set(), "o": set(), "mlp": set()}
    layers = set()
    for path, module in causal_model(name).named_modules():
        if isinstance(module, (torch.nn.Linear, transformers.pytorch_utils.Conv1D)) and "lm_head" not in path:
            layer, group = layer_and_group(path)
            layers.add(layer)
            found[group].add(path.rpartition(".")[2])
    assert tuple(found.values()) == NAMES[name]
    assert layers == {0, 1}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.embed_tokens.weight", (None, "other")),
        ("lm_head", (None, "other")),
        ("base_model.model.lm_head.modules_to_save.default.weight", (None, "other")),
        ("model.layers.3.input_layernorm.weight", (3, "other")),
        ("model.layers.3.self_attn.q_norm.weight", (3, "other")),
        ("base_model.model.model.layers.31.self_attn.q_proj.lora_A.default.weight", (31, "qkv")),
        ("base_model.model.model.layers.31.mlp.down_proj.base_layer.weight", (31, "mlp")),
        ("_orig_mod.model.layers.7.self_attn.o_proj", (7, "o")),
        ("module.model.layers.7.self_attn.o_proj", (7, "o")),
        # The layer is the first number, not the expert.
        ("model.layers.2.mlp.experts.12.up_proj", (2, "mlp")),
        ("model.layers.2.mlp.experts.gate_up_proj", (2, "mlp")),
        ("model.layers.2.block_sparse_moe.experts.5.w2", (2, "mlp")),
        ("model.layers.2.mlp.gate", (2, "other")),
        ("model.layers.4.self_attn.kv_a_proj_with_mqa", (4, "qkv")),
        ("encoder.block.5.layer.0.SelfAttention.o", (5, "o")),
        ("encoder.block.5.layer.1.DenseReluDense.wo", (5, "mlp")),
        ("transformer.h.1.attn.out_proj", (1, "o")),
        # A tower that sees has layers of its own.
        ("model.visual.blocks.9.attn.qkv", (None, "other")),
        ("model.vision_tower.vision_model.encoder.layers.9.self_attn.q_proj", (None, "other")),
        ("model.language_model.layers.9.self_attn.q_proj", (9, "qkv")),
    ],
)
def test_what_wrappers_and_towers_add_does_not_matter(name: str, expected: tuple[int | None, str]) -> None:
    assert layer_and_group(name) == expected
