"""Which tokens carry loss, under the templates of the model families."""

from pathlib import Path

import numpy as np
import pytest

from data.chat_templates import (
    CHATML,
    CHATML_MARKED,
    GEMMA,
    LLAMA,
    MISTRAL,
    SILENT,
    THINKING,
    tokenizer_with,
)
from fettle.data import ChatEncoder, Example, Sequence
from fettle.errors import DataError, ModelError

CHAT = Example(
    [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "is it a fox?"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "is it quick?"},
        {"role": "assistant", "content": "very\nquick"},
    ],
    source=Path("chats.jsonl"),
    line=7,
)


def answers(template: str, example: Example = CHAT, **settings: object) -> list[str]:
    """Each stretch of tokens that carries loss, as text."""
    tokenizer = tokenizer_with(template)
    (sequence,) = ChatEncoder(tokenizer, **settings).encode_all([example]).sequences  # type: ignore[arg-type]
    edges = np.flatnonzero(np.diff(np.r_[0, sequence.loss_mask, 0]))
    return [tokenizer.decode(sequence.input_ids[a:b]) for a, b in zip(edges[::2], edges[1::2], strict=True)]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (CHATML, ["yes<|im_end|>", "very\nquick<|im_end|>"]),
        (CHATML_MARKED, ["yes<|im_end|>", "very\nquick<|im_end|>"]),
        (LLAMA, ["yes<|eot_id|>", "very\nquick<|eot_id|>"]),
        (GEMMA, ["yes<end_of_turn>", "very\nquick<end_of_turn>"]),
        (MISTRAL, [" yes</s>", " very\nquick</s>"]),
        (THINKING, ["yes<|im_end|>", "<think>\n\n</think>\n\nvery\nquick<|im_end|>"]),
    ],
    ids=["chatml", "marked", "llama", "gemma", "mistral", "thinking"],
)
def test_loss_falls_on_answers_and_the_end_of_turn(template: str, expected: list[str]) -> None:
    assert answers(template) == expected
    assert answers(template, train_on="last") == expected[-1:]


def test_turns_after_the_last_answer_are_left_out() -> None:
    example = Example([*CHAT.messages[:3], {"role": "user", "content": "thanks"}])
    assert answers(CHATML, example) == ["yes<|im_end|>"]


def test_the_same_answer_twice_is_found_twice() -> None:
    messages = [{"role": r, "content": c} for r, c in [("user", "yes"), ("assistant", "yes")] * 2]
    assert answers(THINKING, Example(messages)) == ["yes<|im_end|>", "<think>\n\n</think>\n\nyes<|im_end|>"]


def test_a_template_that_hides_the_answer_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"chats\.jsonl:7.*no loss mask.*generation"):
        answers(SILENT)


def test_a_missing_template_is_an_error_with_the_cure() -> None:
    with pytest.raises(ModelError, match=r"no chat template.*instruct version"):
        ChatEncoder(tokenizer_with(None))


def long_example() -> Example:
    return Example(
        [{"role": "user", "content": "fox " * 100}, {"role": "assistant", "content": "yes"}],
        source=Path("chats.jsonl"),
        line=3,
    )


def test_too_long_examples_lose_the_beginning_and_never_the_answer() -> None:
    encoded = ChatEncoder(tokenizer_with(CHATML), max_seq_length=20).encode_all([long_example()])
    (sequence,) = encoded.sequences
    assert len(sequence) == 20
    tokenizer = tokenizer_with(CHATML)
    assert tokenizer.decode(sequence.input_ids[sequence.loss_mask]) == "yes<|im_end|>"
    assert encoded.counts["truncated"] == 1
    assert "1 of 1 examples cut" in encoded.messages[0]


def test_an_answer_longer_than_the_limit_is_dropped_and_counted() -> None:
    example = Example([{"role": "user", "content": "?"}, {"role": "assistant", "content": "fox " * 100}])
    encoded = ChatEncoder(tokenizer_with(CHATML), max_seq_length=20).encode_all([example, CHAT])
    assert encoded.counts["dropped_too_long"] == 1
    assert all(s.loss_mask.any() for s in encoded.sequences)


def test_the_other_policies_drop_or_refuse() -> None:
    tokenizer = tokenizer_with(CHATML)
    dropped = ChatEncoder(tokenizer, max_seq_length=20, too_long="drop").encode_all([long_example()])
    assert dropped.sequences == []
    assert dropped.counts["dropped_too_long"] == 1
    with pytest.raises(DataError, match=r"chats\.jsonl:3: has \d+ tokens, more than"):
        ChatEncoder(tokenizer, max_seq_length=20, too_long="error").encode_all([long_example()])


def test_kept_names_the_example_of_each_sequence() -> None:
    encoder = ChatEncoder(tokenizer_with(CHATML), max_seq_length=100, too_long="drop")
    encoded = encoder.encode_all([long_example(), CHAT, long_example(), CHAT])
    assert encoded.kept == [1, 3]


def test_a_sequence_checks_its_shapes() -> None:
    with pytest.raises(DataError, match="one loss_mask entry per token"):
        Sequence([1, 2, 3], [0, 1])
    with pytest.raises(DataError):
        Sequence([], [])
    first = Sequence([1, 2], [1, 1])
    assert first.loss_mask.tolist() == [False, True]  # nothing precedes the first token
    assert first.completion_tokens == 1


@pytest.mark.real_data
def test_real_chats_are_encoded_whole(real_data: Path) -> None:
    from fettle.data import read_examples

    examples = read_examples(real_data / "compression" / "valid.jsonl")
    tokenizer = tokenizer_with(CHATML)
    encoded = ChatEncoder(tokenizer, max_seq_length=100_000).encode_all(examples)
    assert len(encoded.sequences) == len(examples) == 219
    for example, sequence in zip(examples, encoded.sequences, strict=True):
        answer = tokenizer.decode(sequence.input_ids[sequence.loss_mask])
        assert answer == example.messages[-1]["content"] + "<|im_end|>"
