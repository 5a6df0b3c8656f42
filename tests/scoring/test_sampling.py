"""Sampled answers: the distribution they come from, what ends them, and that their batch has no say."""

from __future__ import annotations

import random
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import TopPLogitsWarper

from fettle.config import SamplingConfig
from fettle.errors import DataError, ModelError
from fettle.scoring import Answer, generate, sample, text_exact_match
from fettle.scoring.next_token import draw, entropies, uniform_stream
from fettle.scoring.stop_text import StopText, cut
from tiny_models import tiny_model, tiny_tokenizer

PROMPTS = [
    [5, 6, 7],
    [40, 41, 42, 43, 44, 45, 46],
    [9],
    list(range(60, 100)),
    [5, 6, 7, 8],
    *([i, 2 * i, i + 9] for i in range(3, 14)),
]
WARM = SamplingConfig(n=2, temperature=0.8, top_p=0.95, max_new_tokens=16, seed=7)


def changed(**keys: Any) -> SamplingConfig:
    return SamplingConfig(**{**WARM.model_dump(), **keys})


def said(answers: list[list[Answer]]) -> list[list[tuple[str, list[int], str]]]:
    return [[(a.text, a.tokens, a.ended) for a in found] for found in answers]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


@pytest.mark.parametrize("kind", ["qwen3", "gpt2", "gemma2", "gpt_neox"])
def test_neither_batch_nor_order_changes_an_answer(kind: str, tokenizer: Any) -> None:
    model = tiny_model(kind, vocab_size=len(tokenizer))
    together = sample(model, tokenizer, PROMPTS, WARM)
    alone = [sample(model, tokenizer, [prompt], WARM, batch_tokens=1)[0] for prompt in PROMPTS[::-2]]
    together = together[::-2]
    assert said(together) == said(alone)
    for found, expected in zip(chain(*together), chain(*alone), strict=True):
        np.testing.assert_allclose(found.entropy, expected.entropy, atol=1e-4)


def test_answers_of_a_prompt_differ_and_follow_the_seed(tokenizer: Any) -> None:
    model = tiny_model(vocab_size=len(tokenizer))
    first = sample(model, tokenizer, PROMPTS, WARM)
    assert all(a.tokens != b.tokens for a, b in first)
    assert [[a.number for a in found] for found in first] == [[0, 1]] * len(PROMPTS)
    assert said(sample(model, tokenizer, PROMPTS, changed(seed=8))) != said(first)
    # More answers leave those that were there as they are.
    more = sample(model, tokenizer, PROMPTS[:3], changed(n=5))
    assert said([found[:2] for found in more]) == said(first[:3])


def test_greedy_is_generate_and_agrees_with_exact_match(tokenizer: Any) -> None:
    from fettle.data.sequence import Sequence

    model = tiny_model(vocab_size=len(tokenizer))
    greedy = SamplingConfig(max_new_tokens=12)
    found = [answers[0] for answers in sample(model, tokenizer, PROMPTS, greedy)]
    plain = [generate(model, tokenizer, [prompt], max_new_tokens=12)[0] for prompt in PROMPTS]
    assert [a.tokens for a in found] == [c.tokens for c in plain]
    assert [a.ended == "eos" for a in found] == [c.ended for c in plain]
    sequences = [
        Sequence([*p, *a.tokens], [0] * len(p) + [1] * len(a.tokens))
        for p, a in zip(PROMPTS, found, strict=True)
    ]
    assert text_exact_match(model, tokenizer, sequences).match.all()


@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.3, 1e-6])
def test_tokens_come_from_the_nucleus_in_its_proportions(top_p: float) -> None:
    """Against Transformers' own top-p filter; an even grid of numbers draws each token in proportion."""
    torch.manual_seed(0)
    logits_V = 2 * torch.randn(50)
    filtered_1V = torch.softmax(logits_V.double()[None] / 0.7, dim=-1)
    if top_p < 1:
        warped_1V = TopPLogitsWarper(top_p)(torch.zeros(1, 1), logits_V.double()[None] / 0.7)
        filtered_1V = torch.softmax(warped_1V, dim=-1)
    N = 20_000
    grid_N = (torch.arange(N, dtype=torch.double) + 0.5) / N
    drawn_N = draw(logits_V.expand(N, -1), grid_N, 0.7, top_p)
    share_V = torch.bincount(drawn_N, minlength=50) / N
    np.testing.assert_allclose(share_V, filtered_1V[0], atol=2 / N)


def test_numbers_at_the_ends_draw_no_impossible_token() -> None:
    logits_V = torch.tensor([-torch.inf, 0.0, 1.0, -torch.inf])
    ends_2 = torch.tensor([0.0, np.nextafter(1.0, 0.0)], dtype=torch.double)
    assert draw(logits_V.expand(2, -1), ends_2, 1.0, 1.0).tolist() == [1, 2]
    assert draw(logits_V.expand(2, -1), ends_2, 1.0, 0.99).tolist() == [1, 2]
    assert draw(logits_V.expand(2, -1), ends_2, 1.0, 0.5).tolist() == [2, 2]


def test_streams_are_uniform_and_their_own() -> None:
    drawn = np.concatenate([uniform_stream(1, [i], j, 50) for i in range(50) for j in range(4)])
    assert len(set(drawn)) == drawn.size
    assert stats.kstest(drawn, "uniform").pvalue > 0.01
    assert (uniform_stream(1, [2, 3], 0, 5) == uniform_stream(1, [2, 3], 0, 5)).all()


def test_entropy_is_of_the_prediction_at_temperature_one(tokenizer: Any) -> None:
    """And log-probabilities too, whatever temperature and top_p the tokens were drawn with."""
    model = tiny_model(vocab_size=len(tokenizer))
    for prompt, answers in zip(
        PROMPTS, sample(model, tokenizer, PROMPTS, changed(logprobs=True)), strict=True
    ):
        for answer in answers:
            ids = torch.tensor([[*prompt, *answer.tokens]])
            with torch.no_grad():
                logits_TV = model(ids).logits[0, len(prompt) - 1 : -1].double()
            logprob_TV = torch.log_softmax(logits_TV, dim=-1)
            entropy_T = stats.entropy(logprob_TV.exp().numpy(), axis=-1)
            np.testing.assert_allclose(answer.entropy, entropy_T, atol=1e-5)
            own_T = logprob_TV[range(len(answer.tokens)), answer.tokens]
            assert answer.logprob is not None
            np.testing.assert_allclose(answer.logprob, own_T, atol=1e-5)
    assert entropies(torch.tensor([[0.0, 0.0, -torch.inf]])).item() == pytest.approx(np.log(2))


def test_a_stop_text_ends_an_answer_wherever_tokens_begin(tokenizer: Any) -> None:
    model = tiny_model(vocab_size=len(tokenizer))
    free = sample(model, tokenizer, PROMPTS, WARM)
    ended = 0
    for stop, include in [("st", True), ("e", False), (" a", True), ("or", False)]:
        held = sample(model, tokenizer, PROMPTS, changed(stop=[stop], include_stop=include))
        for before, after in zip(chain(*free), chain(*held), strict=True):
            at = before.text.find(stop)
            assert (after.ended == "stop") == (at >= 0)
            if at >= 0:
                ended += 1
                assert after.text == before.text[: at + len(stop) * include]
                assert after.tokens == before.tokens[: len(after.tokens)]
                assert stop in tokenizer.decode(after.tokens, skip_special_tokens=True)
                assert stop not in tokenizer.decode(after.tokens[:-1], skip_special_tokens=True)
                assert len(after.entropy) == len(after.tokens)
            else:
                assert after.text == before.text
    assert ended > 10


def test_a_stop_text_is_found_in_every_cut_into_tokens(tokenizer: Any) -> None:
    text, stop = "of 3 é</answer>\n", "é</answer>"
    letters = [tokenizer.encode(c) for c in text]
    whole = tokenizer.encode(text)
    merged = tokenizer.encode("of 3 é</ans") + tokenizer.encode("wer>\n")
    for tokens in ([*chain(*letters)], whole, merged):
        seen = StopText(tokenizer, [stop, "never"])
        when = [seen.add(token) for token in tokens]
        first = next(i for i in range(len(tokens)) if stop in tokenizer.decode(tokens[: i + 1]))
        assert when.index(True) == first


def test_the_text_that_was_complete_first_cuts() -> None:
    assert cut("abcdef", ["def", "cd", "bcde"], include=False) == "ab"
    assert cut("abcdef", ["def", "cd", "bcde"], include=True) == "abcd"
    assert cut("abc", ["x"], include=True) == "abc"


def test_a_special_token_can_be_a_stop_text(tokenizer: Any) -> None:
    model = tiny_model(vocab_size=len(tokenizer), eos_token_id=2)
    marker = tokenizer.convert_tokens_to_ids("<|im_start|>")
    with torch.no_grad():
        weight = model.get_output_embeddings().weight
        [[free]] = sample(model, tokenizer, [[5, 6]], SamplingConfig(max_new_tokens=3))
        weight[marker] = 3 * weight[free.tokens[0]]
    settings = SamplingConfig(max_new_tokens=3, stop=["<|im_start|>"])
    [[answer]] = sample(model, tokenizer, [[5, 6]], settings)
    assert (answer.text, answer.tokens, answer.ended) == ("", [marker], "stop")


class Cramped:
    """A real model whose passes fail like a full device above a number of rows."""

    def __init__(self, model: Any, most: int) -> None:
        self.failures = 0
        forward = model.forward

        def limited(input_ids: Any = None, **others: Any) -> Any:
            if input_ids is not None and input_ids.shape[0] > most:
                self.failures += 1
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(input_ids=input_ids, **others)

        model.forward = limited


def test_a_batch_that_does_not_fit_is_split_and_loses_nothing(tokenizer: Any) -> None:
    expected = said(sample(tiny_model(vocab_size=len(tokenizer)), tokenizer, PROMPTS, WARM))
    model = tiny_model(vocab_size=len(tokenizer))
    cramped = Cramped(model, most=5)
    assert said(sample(model, tokenizer, PROMPTS, WARM)) == expected
    assert 1 <= cramped.failures <= 4
    model = tiny_model(vocab_size=len(tokenizer))
    Cramped(model, most=0)
    with pytest.raises(ModelError, match=r"prompt 3 of 40 tokens and 16 new ones.*max_new_tokens"):
        sample(model, tokenizer, PROMPTS, WARM)


@pytest.mark.parametrize("kind", ["qwen3", "gpt2"])
def test_the_context_ends_an_answer(kind: str, tokenizer: Any) -> None:
    model = tiny_model(kind, vocab_size=len(tokenizer), max_position_embeddings=32)
    prompts = [[7] * 32, [7] * 29, [7, 8], [9] * 31]
    answers = sample(model, tokenizer, prompts, changed(n=1, logprobs=True))
    assert [len(a.tokens) <= room for [a], room in zip(answers, [0, 3, 16, 1], strict=True)] == [True] * 4
    assert (answers[0][0].ended, answers[0][0].text) == ("length", "")
    assert answers[0][0].logprob is not None
    alone = sample(model, tokenizer, [prompts[1]], changed(n=1))
    assert said([answers[1]]) == said(alone)


def test_logits_that_are_not_finite_end_an_answer_and_say_so(tokenizer: Any) -> None:
    model = tiny_model(vocab_size=len(tokenizer), tie_word_embeddings=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[50] = torch.nan
    answers = sample(model, tokenizer, [[50, 6], [5, 6]], changed(n=1))
    assert [a.ended == "not_finite" for [a] in answers] == [True, False]
    assert answers[0][0].tokens == []
    assert said([answers[1]]) == said(sample(model, tokenizer, [[5, 6]], changed(n=1)))


def test_an_empty_prompt_is_refused(tokenizer: Any) -> None:
    with pytest.raises(DataError, match="prompt 1 has no tokens"):
        sample(tiny_model(vocab_size=len(tokenizer)), tokenizer, [[5], []], WARM)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
def test_modes_random_state_and_adapters_stay_as_they_were(tokenizer: Any) -> None:
    from peft import LoraConfig, get_peft_model

    model = tiny_model(vocab_size=len(tokenizer), attention_dropout=0.5)
    lora = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)).train()
    torch.manual_seed(3)
    before = torch.get_rng_state(), random.getstate()
    first = said(sample(lora, tokenizer, PROMPTS[:4], WARM))
    assert said(sample(lora, tokenizer, PROMPTS[:4], WARM)) == first
    assert lora.training
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    with lora.disable_adapter():
        assert said(sample(lora, tokenizer, PROMPTS[:4], WARM)) != first
