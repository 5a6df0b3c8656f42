"""Greedy decoding: what plain Transformers would say, in any precision, with nothing left changed."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from fettle.scoring import generate
from tiny_models import tiny_model, tiny_tokenizer

PROMPTS = [[5, 6, 7], [40, 41, 42, 43, 44, 45, 46], [9]]


def argmax_loop(model: Any, prompt: list[int], count: int, stops: set[int]) -> list[int]:
    """One whole forward pass a token, no cache."""
    ids = list(prompt)
    for _ in range(count):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] in stops:
            break
    return ids[len(prompt) :]


@pytest.mark.parametrize("kind", ["qwen3", "gpt2", "gemma2", "gpt_neox"])
def test_it_is_the_argmax_token_by_token(kind: str) -> None:
    tokenizer = tiny_tokenizer()
    model = tiny_model(kind, vocab_size=len(tokenizer))
    found = generate(model, tokenizer, PROMPTS, max_new_tokens=12)
    stops = {tokenizer.eos_token_id, model.generation_config.eos_token_id}
    assert [c.tokens for c in found] == [argmax_loop(model, p, 12, stops) for p in PROMPTS]
    assert all(c.seconds > 0 for c in found)
    assert [c.ended for c in found] == [c.tokens[-1] in stops for c in found]


def test_it_stops_where_turns_of_the_data_end() -> None:
    tokenizer = tiny_tokenizer()
    model = tiny_model(vocab_size=len(tokenizer))
    [free] = generate(model, tokenizer, [[5, 6, 7]], max_new_tokens=8)
    assert (len(free.tokens), free.ended) == (8, False)
    # A marker of the template that neither model nor tokenizer calls the end: <|im_start|>, say.
    marker = tokenizer.convert_tokens_to_ids("<|im_start|>")
    with torch.no_grad():
        weight = model.get_output_embeddings().weight
        weight[marker] = 3 * weight[free.tokens[0]]
    [said] = generate(model, tokenizer, [[5, 6, 7]], max_new_tokens=8, ends=[marker])
    assert (said.tokens, said.ended) == ([marker], True)
    # An ordinary token at the end of an answer ends none.
    model = tiny_model(vocab_size=len(tokenizer))
    [again] = generate(model, tokenizer, [[5, 6, 7]], max_new_tokens=8, ends=[free.tokens[0]])
    assert again.tokens == free.tokens


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_models_own_sampling_settings_have_no_say(wrapped: bool) -> None:
    tokenizer = tiny_tokenizer()
    model = tiny_model(vocab_size=len(tokenizer))
    model = lora(model) if wrapped else model
    plain = [c.tokens for c in generate(model, tokenizer, PROMPTS, max_new_tokens=12)]
    settings = model.generation_config
    settings.update(do_sample=True, temperature=5.0, top_k=3, repetition_penalty=9.0, num_beams=2)
    assert [c.tokens for c in generate(model, tokenizer, PROMPTS, max_new_tokens=12)] == plain
    assert model.generation_config is settings


def test_modes_and_random_state_are_restored() -> None:
    tokenizer = tiny_tokenizer()
    model = tiny_model(vocab_size=len(tokenizer), attention_dropout=0.5).train()
    model.model.layers[1].eval()  # a mixture must come back as it was
    modes = [module.training for module in model.modules()]
    torch.manual_seed(3)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    first = generate(model, tokenizer, PROMPTS, max_new_tokens=6)
    assert [c.tokens for c in generate(model, tokenizer, PROMPTS, max_new_tokens=6)] == [
        c.tokens for c in first
    ]
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])
    assert torch.is_grad_enabled()


def lora(model: Any, **changes: Any) -> Any:
    peft: Any = pytest.importorskip("peft")
    return peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj", "v_proj"], **changes))


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("kind", ["plain", "lora", "head_in_float32", "norms_in_float32"])
def test_bfloat16_in_every_mixture_that_can_be_trained(kind: str) -> None:
    tokenizer = tiny_tokenizer()
    model = tiny_model("llama", vocab_size=len(tokenizer)).to(torch.bfloat16).train()
    if kind == "lora":
        model = lora(model)  # float32 factors on a bfloat16 base
    elif kind == "head_in_float32":
        model.lm_head.float()
    elif kind == "norms_in_float32":
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.data = parameter.data.float()
    found = generate(model, tokenizer, PROMPTS, max_new_tokens=6)
    assert all(1 <= len(c.tokens) <= 6 for c in found)
    assert model.training


def test_an_error_of_another_kind_is_not_swallowed() -> None:
    tokenizer = tiny_tokenizer()
    model = tiny_model("llama", vocab_size=len(tokenizer)).to(torch.bfloat16)

    def broken(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("broken on purpose")

    model.model.layers[0].self_attn.forward = broken
    with pytest.raises(RuntimeError, match="broken on purpose"):
        generate(model, tokenizer, PROMPTS, max_new_tokens=3)


def test_nothing_is_generated_beyond_the_context() -> None:
    tokenizer = tiny_tokenizer()
    model = tiny_model("gpt2", vocab_size=len(tokenizer), max_position_embeddings=10)
    found = generate(model, tokenizer, [[5] * 7, [5] * 10], max_new_tokens=50)
    assert [len(c.tokens) for c in found] == [3, 0]
    assert not found[1].ended
