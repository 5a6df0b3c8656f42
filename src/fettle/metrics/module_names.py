"""Where a module stands in a language model, by its name."""

from __future__ import annotations

from itertools import takewhile
from typing import Literal

ModuleGroup = Literal["qkv", "o", "mlp", "other"]
GROUPS: tuple[ModuleGroup, ...] = ("qkv", "o", "mlp", "other")

QUERY_KEY_VALUE = frozenset(
    "q_proj k_proj v_proj qkv_proj query_key_value c_attn q_attn Wqkv wqkv W_pack att_proj in_proj_qkvz "
    "query key value q k v wq wk wv q_a_proj q_b_proj kv_a_proj_with_mqa kv_b_proj in_proj_qkv".split()
)
OUTPUT = frozenset("o_proj attn_out".split())
MLP = frozenset(
    "gate_proj up_proj down_proj gate_up_proj dense_h_to_4h dense_4h_to_h c_fc fc1 fc2 fc_in fc_out "
    "ff_proj ff_out w1 w2 w3 wi wi_0 wi_1 linear_1 linear_2 lin1 lin2".split()
)
# The same word names the way out of the attention and out of the MLP: the parent tells which.
EITHER = frozenset("c_proj dense out_proj wo o out out_lin".split())
ATTENTION_PARENTS = ("attn", "attention")
MLP_PARENTS = ("mlp", "ffn", "feed_forward", "feedforward", "relu", "intermediate", "output", "moe", "expert")
# Their layers have numbers of their own, which are not those of the language model.
OTHER_TOWERS = ("vision", "visual", "audio")
# What PEFT and torch.compile put into a name; from the first of ADAPTERS on, it is theirs.
WRAPPERS = frozenset({"base_layer", "original_module", "weight", "_orig_mod"})
ADAPTERS = ("lora_", "ia3_", "modules_to_save")


def layer_and_group(name: str) -> tuple[int | None, ModuleGroup]:
    """The layer and the group of a module or weight: `model.layers.3.self_attn.q_proj` is (3, "qkv").

    The layer is the first number in the name, so that `layers.3.mlp.experts.12.up_proj` belongs
    to layer 3. It is None for what stands outside the layers (embeddings, head, the vision
    tower of a model that sees). `qkv` is all that makes queries, keys and values, fused or
    not; `o` the way out of the attention; `mlp` gate, up and down, experts included; routers,
    norms and embeddings are `other`.
    """
    named = takewhile(lambda part: not part.startswith(ADAPTERS), name.split("."))
    parts = [part for part in named if part and part not in WRAPPERS]
    index = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    if index is None or any(part.lower().startswith(OTHER_TOWERS) for part in parts[:index]):
        return None, "other"
    inside = parts[index + 1 :]
    return int(parts[index]), _group(inside[-1], inside[:-1]) if inside else "other"


def _group(own: str, parents: list[str]) -> ModuleGroup:
    path = ".".join(parents).lower()
    attention = any(word in path for word in ATTENTION_PARENTS)
    if own in QUERY_KEY_VALUE:
        return "qkv"
    if own in OUTPUT or (own in EITHER and attention):
        return "o"
    if own in MLP or (own in EITHER and any(word in path for word in MLP_PARENTS)):
        return "mlp"
    return "other"
