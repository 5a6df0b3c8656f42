"""Loss under templates that rewrite history, and where question and answer use the same words."""

from typing import Any

import numpy as np
import pytest

from data.chat_templates import (
    CHATML,
    CHATML_MARKED,
    MARKED_OPEN,
    PARTS,
    PHI,
    PLAIN,
    REASONING,
    THINK_OPENED,
    TOOLS,
    tokenizer_with,
)
from fettle.data import ChatEncoder, Example


def chat(*turns: tuple[str, Any], **changes: Any) -> Example:
    return Example([{"role": role, "content": content} for role, content in turns], **changes)


def stretches(template: str, example: Example, **settings: Any) -> list[str]:
    """Each stretch of tokens that carries loss, as text."""
    tokenizer = tokenizer_with(template)
    (sequence,) = ChatEncoder(tokenizer, **settings).encode_all([example]).sequences
    edges = np.flatnonzero(np.diff(np.r_[0, sequence.loss_mask, 0]))
    return [tokenizer.decode(sequence.input_ids[a:b]) for a, b in zip(edges[::2], edges[1::2], strict=True)]


ECHO = chat(("user", "no"), ("assistant", "no"), ("user", "no fox"), ("assistant", "no fox"))


@pytest.mark.parametrize("template", [REASONING, THINK_OPENED], ids=["reasoning", "think-opened"])
def test_an_answer_in_the_words_of_the_question_is_not_the_question(template: str) -> None:
    tokenizer = tokenizer_with(template)
    (sequence,) = ChatEncoder(tokenizer).encode_all([ECHO]).sequences
    before = tokenizer.decode(sequence.input_ids[: int(np.flatnonzero(sequence.loss_mask)[0])])
    assert before == "<|im_start|>user\nno<|im_end|>\n<|im_start|>assistant\n"


def test_reasoning_is_learned_in_the_last_answer_and_absent_from_earlier_ones() -> None:
    example = chat(
        ("user", "a fox?"),
        ("assistant", "<think>\nit is quick\n</think>\n\nyes"),
        ("user", "a user?"),
        ("assistant", "<think>\nthe answer\n</think>\n\nno"),
    )
    last = "the answer\n</think>\n\nno<|im_end|>"
    assert stretches(REASONING, example) == ["yes<|im_end|>", "<think>\n" + last]
    assert stretches(THINK_OPENED, example) == ["yes<|im_end|>", last]
    assert stretches(THINK_OPENED, example, train_on="last") == [last]


def test_an_empty_think_block_that_the_prompt_does_not_open_is_learned() -> None:
    assert stretches(REASONING, ECHO) == ["no<|im_end|>", "<think>\n\n</think>\n\nno fox<|im_end|>"]
    assert stretches(THINK_OPENED, ECHO) == ["no<|im_end|>", "\n</think>\n\nno fox<|im_end|>"]


def test_the_end_of_text_behind_the_last_turn_is_no_part_of_the_answer() -> None:
    assert stretches(PHI, ECHO) == ["no<|end|>", "no fox<|end|>"]


def test_tool_calls_are_learned_with_the_words_before_them() -> None:
    call = {"function": {"name": "fox", "arguments": {"quick": 1}}}
    example = Example(
        [
            {"role": "user", "content": "fox?"},
            {"role": "assistant", "content": "the fox", "tool_calls": [call, call]},
            {"role": "tool", "content": "the fox"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "brown"},
            {"role": "assistant", "content": "brown"},
        ]
    )
    one = '<tool_call>{"name": "fox", "arguments": {"quick": 1}}</tool_call>'
    assert stretches(TOOLS, example) == [
        f"the fox{one}{one}<|im_end|>",
        f"{one}<|im_end|>",
        "brown<|im_end|>",
    ]


def test_content_in_parts_is_found() -> None:
    parts = [{"type": "text", "text": "no"}]
    assert stretches(PARTS, chat(("user", parts), ("assistant", parts))) == ["no<|im_end|>"]


def test_marks_that_close_early_still_learn_the_end_of_turn() -> None:
    assert stretches(MARKED_OPEN, ECHO) == ["no<|im_end|>", "no fox<|im_end|>"]


@pytest.mark.parametrize("template", [CHATML, CHATML_MARKED, REASONING], ids=["plain", "marked", "reasoning"])
def test_answers_given_by_the_prompt_carry_no_loss(template: str) -> None:
    given = Example(ECHO.messages, given=3)
    assert stretches(template, given) == stretches(template, ECHO)[1:]
    unweighted = Example([*ECHO.messages[:1], {**ECHO.messages[1], "weight": 0}, *ECHO.messages[2:]])
    assert stretches(template, unweighted) == stretches(template, ECHO)[1:]


def test_a_cut_never_leaves_half_an_answer_to_learn() -> None:
    example = chat(
        ("user", "fox"), ("assistant", "the quick brown fox " * 5), ("user", "?"), ("assistant", "yes")
    )
    tokenizer = tokenizer_with(CHATML)
    whole = len(ChatEncoder(tokenizer).encode_all([example]).sequences[0])
    for limit in range(12, whole):
        found = stretches(CHATML, example, max_seq_length=limit)
        assert found[-1] == "yes<|im_end|>"
        assert found[:-1] in ([], ["the quick brown fox " * 5 + "<|im_end|>"]), limit


def test_a_template_without_an_end_of_turn_is_told() -> None:
    encoded = ChatEncoder(tokenizer_with(PLAIN)).encode_all([ECHO])
    assert any("does not learn where to stop" in message for message in encoded.messages)
    assert not ChatEncoder(tokenizer_with(CHATML)).encode_all([ECHO]).messages
    assert stretches(PLAIN, ECHO) == [" no", " no fox"]
