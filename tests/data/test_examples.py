"""Reading chats, their fingerprints, and what leaks from training into the held-out set."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from fettle.data import Example, choose_samples, examples_fingerprint, fingerprint, leakage, read_examples
from fettle.errors import DataError


def chat(user: str, assistant: str, **more: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    return {"messages": turns, **more}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def test_chats_and_prompt_completion_pairs_read_alike(tmp_path: Path) -> None:
    rows = [chat("a", "b", pattern="math"), {"prompt": "a", "completion": "b"}]
    first, second = read_examples(write(tmp_path / "d.jsonl", *rows))
    assert first.messages == second.messages
    assert first.id == second.id
    assert (first.pattern, second.pattern) == ("math", "")
    assert (first.line, second.line) == (1, 2)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("{broken\n", "is no JSON"),
        ("[1, 2]\n", "is no object"),
        ({"text": "x"}, "neither messages nor prompt"),
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "user", "content": "x"}]}, "no assistant message"),
        ({"messages": [{"content": "x"}]}, "message 1 has no role"),
        ({"messages": [{"role": "assistant", "content": None}]}, "has no content"),
        ({"messages": ["x"]}, "message 1 is no object"),
        (chat("a", "b", pattern=3), "pattern must be a string"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, row: object, problem: str) -> None:
    path = write(tmp_path / "d.jsonl", chat("a", "b"), row)
    with pytest.raises(DataError, match=problem) as caught:
        read_examples(path)
    assert f"{path}:2" in str(caught.value)


def test_many_malformed_lines_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", *["{\n"] * 12)
    with pytest.raises(DataError) as caught:
        read_examples(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 6
    assert "and 7 more lines" in lines[-1]


def test_turns_of_a_prompt_are_given_and_the_completion_is_learned(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    rows = [{"prompt": [*turns, turns[0]], "completion": [turns[1]]}, {"messages": turns}]
    first, second = read_examples(write(tmp_path / "d.jsonl", *rows))
    assert (first.given, first.learned_answers(only_last=False)) == (3, [3])
    assert (second.given, second.learned_answers(only_last=False)) == (0, [1])
    given_only = {"prompt": turns, "completion": [turns[0]]}
    with pytest.raises(DataError, match="no assistant message"):
        read_examples(write(tmp_path / "e.jsonl", given_only))


def test_an_empty_or_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is empty"):
        read_examples(write(tmp_path / "empty.jsonl", "\n\n"))
    with pytest.raises(DataError, match="cannot be read"):
        read_examples(tmp_path / "none.jsonl")


def test_invalid_utf8_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(json.dumps(chat("a", "b")).encode() + b'\n{"messages": "\xff"}\n')
    with pytest.raises(DataError, match=r"d\.jsonl:2: is no JSON"):
        read_examples(path)


def test_fingerprints_follow_content_alone(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.jsonl", chat("a", "b")), write(tmp_path / "b.jsonl", chat("a", "b"))
    assert fingerprint(a) == fingerprint(b)
    assert fingerprint(write(b, chat("a", "c"))) != fingerprint(a)
    one, two = read_examples(a), read_examples(b)
    assert examples_fingerprint(one) != examples_fingerprint(two)
    assert examples_fingerprint([*one, *two]) != examples_fingerprint([*two, *one])


def test_the_choice_of_samples_is_seeded_and_keeps_order() -> None:
    examples = [Example([], line=i) for i in range(100)]
    chosen = [e.line for e in choose_samples(examples, 10, seed=1)]
    assert chosen == [e.line for e in choose_samples(examples, 10, seed=1)]
    assert chosen == sorted(chosen)
    assert chosen != [e.line for e in choose_samples(examples, 10, seed=2)]
    assert chosen != list(range(10))
    assert len(choose_samples(examples, 1000, seed=1)) == 100


def examples(*pairs: tuple[str, str]) -> list[Example]:
    return [
        Example(chat(user, answer)["messages"], line=i) for i, (user, answer) in enumerate(pairs, start=1)
    ]


WORDS = [f"word{i}" for i in range(60)]


def test_exact_near_and_prompt_leaks_are_told_apart() -> None:
    text = " ".join(WORDS)
    nearly = " ".join([*WORDS[:-1], "changed"])
    train = examples(("One  Fox", "yes"), (text, "a long answer"), ("who?", "me"))
    held_out = examples(("one fox", "YES"), (nearly, "a long answer"), ("who?", "you"), ("new", "thing"))
    found = leakage(train, held_out)
    assert (found.exact, found.near, found.same_prompt, found.samples) == (1, 1, 1, 4)
    assert found.pairs == [(1, 1), (2, 2)]
    assert "1 of 4 held-out examples stand in the training data and 1 more" in found.message()


def test_every_planted_near_duplicate_is_found() -> None:
    rng = random.Random(0)
    train_texts = [" ".join(f"w{rng.randrange(5000)}" for _ in range(80)) for _ in range(400)]
    planted: list[str] = []
    for text in train_texts[:200]:
        words = text.split()
        words[rng.randrange(5, 75)] = "changed"  # five of its 5-grams: Jaccard 0.88
        planted.append(" ".join(words))
    train = examples(*((text, "answer") for text in train_texts))
    found = leakage(train, examples(*((text, "answer") for text in planted)))
    assert (found.exact, found.near) == (0, 200)
    assert found.pairs[0] == (1, 1)


def test_clean_sets_leak_nothing() -> None:
    found = leakage(examples(("a b c d e f", "1")), examples(("g h i j k l", "2")))
    assert (found.exact, found.near, found.same_prompt) == (0, 0, 0)


def test_half_shared_texts_are_no_duplicates() -> None:
    half = WORDS[:30]
    other = [f"other{i}" for i in range(30)]
    found = leakage(examples((" ".join(WORDS), "x")), examples((" ".join(half + other), "x")))
    assert found.near == 0


@pytest.mark.real_data
def test_real_leaks_are_found(real_data: Path) -> None:
    folder = real_data / "compression"
    found = leakage(read_examples(folder / "train.jsonl"), read_examples(folder / "valid.jsonl"))
    # Counted by hand: held-out lines 189 and 191 are training line 137.
    assert found.exact == 2
    assert (189, 137) in found.pairs
