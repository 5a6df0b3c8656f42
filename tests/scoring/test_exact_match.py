"""Exact match without generating, against real greedy generation, on a model that learned some answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from fettle import Scores, Sequence, score
from fettle.errors import ConfigError
from fettle.scoring import completion_loss, normaliser, text_exact_match
from tiny_models import tiny_model, tiny_tokenizer

WORDS = ["number", "answer", "question", "words", "other", "here", "system", "user"]


@dataclass
class Taught:
    model: Any
    tokenizer: Any
    sequences: list[Sequence]
    scores: Scores


def answer(i: int) -> str:
    return f"{WORDS[i % 8]} {10 + 7 * i} {WORDS[(3 * i + 1) % 8]}"


def sequence(tokenizer: Any, prompt: str, completion: str) -> Sequence:
    before = tokenizer.encode(f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n")
    after = tokenizer.encode(f"{completion}<|im_end|>")
    return Sequence(before + after, [0] * len(before) + [1] * len(after))


@pytest.fixture(scope="module")
def taught() -> Taught:
    """Sixteen answers learned by heart, and eight prompts it never saw."""
    tokenizer = tiny_tokenizer()
    sequences = [sequence(tokenizer, f"question {i}", answer(i)) for i in range(24)]
    model = tiny_model("qwen3", initializer_range=0.05, attention_dropout=0.0).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    tokens = sum(s.completion_tokens for s in sequences[:16])
    for _ in range(120):
        loss = completion_loss(model, sequences[:16]) / tokens
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    return Taught(model, tokenizer, sequences, score(model, sequences))


def greedy(taught: Taught, s: Sequence, length: int) -> list[int]:
    prompt = torch.from_numpy(s.input_ids[: int(s.loss_mask.argmax())])[None]
    output = taught.model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=length,
        eos_token_id=taught.tokenizer.eos_token_id,
        pad_token_id=taught.tokenizer.pad_token_id,
    )
    return output[0, prompt.shape[1] :].tolist()


def test_token_level_equals_greedy_generation(taught: Taught) -> None:
    for i, s in enumerate(taught.sequences):
        gold = s.input_ids[s.loss_mask].tolist()
        assert gold[-1] == taught.tokenizer.eos_token_id  # the end of the turn must be said, too
        assert taught.scores.exact_match[i] == (greedy(taught, s, len(gold)) == gold)
    matched = int(taught.scores.exact_match.sum())
    assert 8 <= matched <= 23  # both outcomes occur


def test_right_words_without_the_end_of_turn_do_not_match(taught: Taught) -> None:
    """A completion cut short: every word is right, and the model does not stop there."""
    i = int(np.flatnonzero(taught.scores.exact_match)[0])
    s = taught.sequences[i]
    start = int(s.loss_mask.argmax())
    ids = np.append(s.input_ids[:-3], taught.tokenizer.eos_token_id)
    short = Sequence(ids, np.arange(ids.size) >= start)
    result = score(taught.model, [short])
    assert result.correct[:-1].all()
    assert not result.exact_match[0]


def test_text_level_equals_generation_from_the_prompt(taught: Taught) -> None:
    """Continuing from the first wrong token says what generating everything says."""
    matches = text_exact_match(taught.model, taught.tokenizer, taught.sequences, scores=taught.scores)
    assert not (matches.generated & taught.scores.exact_match).any()
    assert matches.generated.any()
    for i, s in enumerate(taught.sequences):
        left = s.completion_tokens
        said = taught.tokenizer.decode(greedy(taught, s, 3 * left + 20), skip_special_tokens=True)
        whole = taught.tokenizer.decode(s.input_ids[s.loss_mask], skip_special_tokens=True)
        assert matches.match[i] == (said.strip() == whole.strip())
        # A long answer that never ends is cut where its room ends, not where ours was.
        assert said.startswith(matches.texts[i][0][: len(said)])
    assert (matches.match == taught.scores.exact_match).all()


def test_text_level_forgives_what_the_normaliser_forgives(taught: Taught) -> None:
    """Gold answers in capitals and with other words around the same number: only normalisers match them."""
    tokenizer = taught.tokenizer
    known = [i for i in range(16) if taught.scores.exact_match[i]][:4]
    loud = [sequence(tokenizer, f"question {i}", answer(i).upper()) for i in known]
    other = [sequence(tokenizer, f"question {i}", f"it is {10 + 7 * i}.00") for i in known]
    assert not score(taught.model, loud + other).exact_match.any()
    for name, expected in {"strip": (0, 0), "case": (4, 0), "number": (4, 4), r"regex:(\d+)": (4, 0)}.items():
        loud_matches = text_exact_match(taught.model, tokenizer, loud, name)
        other_matches = text_exact_match(taught.model, tokenizer, other, name)
        assert (loud_matches.match.sum(), other_matches.match.sum()) == expected, name
        assert loud_matches.generated.all()


def test_every_turn_counts(taught: Taught) -> None:
    tokenizer = taught.tokenizer
    i, j = np.flatnonzero(taught.scores.exact_match)[:2]
    a, b = taught.sequences[i], taught.sequences[j]
    both = Sequence(np.concatenate([a.input_ids, b.input_ids]), np.concatenate([a.loss_mask, b.loss_mask]))
    nothing = Sequence(a.input_ids, np.zeros(len(a)))
    matches = text_exact_match(taught.model, tokenizer, [both, nothing, a])
    assert [len(texts) for texts in matches.texts] == [2, 0, 1]
    assert matches.texts[0][0] == matches.texts[2][0]
    assert matches.scorable.tolist() == [True, False, True]
    assert matches.match.tolist()[1:] == [False, True]


def test_text_level_leaves_the_model_as_it_was(taught: Taught) -> None:
    taught.model.train()
    state = torch.get_rng_state()
    text_exact_match(taught.model, taught.tokenizer, taught.sequences[16:20])
    assert taught.model.training
    assert torch.equal(state, torch.get_rng_state())
    taught.model.eval()


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("strip", "  Yes \n", "Yes"),
        ("case", " YeS ", "yes"),
        ("number", "from 3 to 1,250.00 euros", "1250"),
        ("number", "-0.50", "-0.5"),
        ("number", "1e3 or 20", "20"),
        ("number", "100", "100"),
        ("number", "no figure", None),
        (r"regex:#### (.+)", "so\n#### 42 \n", "42"),
        (r"regex:\d+", "7 and 8", "8"),
        (r"regex:x", "y", None),
    ],
)
def test_normalisers(name: str, text: str, expected: str | None) -> None:
    assert normaliser(name)(text) == expected


@pytest.mark.parametrize("name", ["lower", "regex:", "regex:(", ""])
def test_unknown_normaliser_names_itself_and_the_cure(name: str) -> None:
    with pytest.raises(ConfigError, match="normaliser"):
        normaliser(name)


def test_a_completion_without_a_number_is_not_scorable(taught: Taught) -> None:
    plain = sequence(taught.tokenizer, "question 1", "words")
    matches = text_exact_match(taught.model, taught.tokenizer, [plain], "number")
    assert (matches.match.tolist(), matches.scorable.tolist()) == ([False], [False])
