"""Small real models and a small real tokenizer, built on the spot, for tests of any room."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A template without {% generation %}, in the manner of Qwen."""

KINDS = ("qwen3", "llama", "gemma2", "granite", "cohere", "phi", "gpt_neox", "gpt2", "mistral")
"""What each adds: q/k norms and tied weights; the plain one; soft-caps and a window on every other
layer; a divided and a multiplied logit; a bias on the head; parallel residuals; learned positions;
a sliding window on every layer."""


def tiny_model(
    kind: str = "qwen3",
    *,
    vocab_size: int = 320,
    hidden: int = 64,
    layers: int = 2,
    seed: int = 0,
    **changes: Any,
) -> Any:
    """A causal LM of a family, random weights, evaluation mode, float32.

    Weights are drawn with a standard deviation of 0.08, four times what is usual: attention
    and logits then differ enough between tokens for a mistake to show.
    """
    sizes: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "initializer_range": 0.08,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
    }
    own: dict[str, Any] = {
        "qwen3": {"num_key_value_heads": 2, "head_dim": hidden // 4, "tie_word_embeddings": True},
        "llama": {"num_key_value_heads": 2},
        "gemma2": {
            "num_key_value_heads": 2,
            "head_dim": hidden // 4,
            "query_pre_attn_scalar": hidden // 4,
            "sliding_window": 12,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
        "granite": {"num_key_value_heads": 2, "logits_scaling": 3.0, "residual_multiplier": 0.8},
        "cohere": {"num_key_value_heads": 2, "logit_scale": 0.25},
        "phi": {"num_key_value_heads": 2},
        "gpt_neox": {},
        "gpt2": {"n_inner": 2 * hidden, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
        "mistral": {"num_key_value_heads": 2, "sliding_window": 10},
    }[kind]
    names = {"gpt_neox": "GPTNeoX", "gpt2": "GPT2"}
    name = names.get(kind, kind.capitalize())
    config = getattr(transformers, f"{name}Config")(**{**sizes, **own, **changes})
    torch.manual_seed(seed)
    model = getattr(transformers, "GPT2LMHeadModel" if kind == "gpt2" else f"{name}ForCausalLM")(config)
    if (bias := getattr(model.get_output_embeddings(), "bias", None)) is not None:
        torch.nn.init.normal_(bias)
    return model.eval()


@lru_cache
def _trained(vocab_size: int) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = "system user assistant The answer to the question is a number, and the other words are here. " * 4
    tokenizer.train_from_iterator([text, *(f"{i} plus {i + 1} is {2 * i + 1}" for i in range(50))], trainer)
    return tokenizer.to_str()


def tiny_tokenizer(vocab_size: int = 320) -> Any:
    """A byte-level BPE tokenizer with a ChatML template; any text encodes and decodes to itself."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained(vocab_size)),
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        chat_template=CHATML,
        clean_up_tokenization_spaces=False,
    )
