"""Which kind of prompt an example is: words, not substrings; the most specific kind first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fettle.config import PatternsConfig
from fettle.data import Example, PatternClassifier, read_examples


@pytest.fixture
def classifier() -> PatternClassifier:
    return PatternClassifier(PatternsConfig().rules)


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("Listen to this and say something", "other"),  # holds "list" as letters only
        ("list the planets", "factual"),
        ("A playlist, whenever you like", "other"),
        ("Write a function that adds", "coding"),
        ("Write a poem about the sea", "creative"),
        ("Explain the code", "coding"),
        ("Decode this", "other"),
        ("WHAT IS the capital of Peru?", "factual"),
        ("what\n  is the capital of Peru?", "factual"),
        ("What island?", "other"),
        ("Explain what is meant", "reasoning"),
        ("Calculate why the bridge fell", "math"),
        ("How does it work", "reasoning"),
        ("What is the proof?", "math"),
        ("Why? When? Where?", "reasoning"),
        ("code-review", "coding"),
        ("", "other"),
    ],
)
def test_the_default_kinds(classifier: PatternClassifier, prompt: str, kind: str) -> None:
    assert classifier.kind_of_text(prompt) == kind


def test_every_default_word_alone_is_of_its_kind(classifier: PatternClassifier) -> None:
    for kind, words in PatternsConfig().rules.items():
        for word in words:
            assert classifier.kind_of_text(f"please {word}, now") == kind
            assert classifier.kind_of_text(f"x{word}") == classifier.kind_of_text(f"{word}x") == "other"


def test_rules_of_ones_own_are_words_and_regular_expressions_in_their_order() -> None:
    rules = {
        "sql": [r"(?i)\bselect\b.+\bfrom\b", r"(\w)\1{4}"],
        "greeting": ["hello", r"^hi\b"],
        "äö": ["süß"],
    }
    classifier = PatternClassifier(rules)
    texts = ["hello, SELECT x FROM y", "zzzzz", "Hi there", "she said hi", "SÜß!", "süßer"]
    assert [classifier.kind_of_text(text) for text in texts] == [
        "sql", "sql", "greeting", "other", "äö", "other"
    ]  # fmt: skip


def turns(*texts: Any) -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def test_the_last_question_counts_and_not_the_system_prompt(classifier: PatternClassifier) -> None:
    system = {"role": "system", "content": "You write code."}
    assert classifier.kind(Example([system, *turns("hello", "hi")])) == "other"
    assert classifier.kind(Example(turns("write a poem", "no", "then compute 3 + 4", "7"))) == "math"
    assert classifier.kind(Example(turns("compute 3", "3", "thanks, where?"))) == "math"  # never answered
    assert classifier.kind(Example([{"role": "assistant", "content": "code"}])) == "other"  # nobody asks
    parts = [{"type": "image"}, {"type": "text", "text": "list them"}]
    assert classifier.kind(Example(turns(parts, "a, b"))) == "factual"


def test_what_a_line_says_of_itself_wins(tmp_path: Path, classifier: PatternClassifier) -> None:
    path = tmp_path / "d.jsonl"
    rows = [{"messages": turns("write code", "x"), "pattern": "law", "skill": "math"}]
    path.write_text(
        "".join(json.dumps(row) + "\n" for row in [*rows, {"messages": turns("write code", "x")}])
    )
    assert [classifier.kind(e) for e in read_examples(path)] == ["law", "coding"]
    assert [classifier.kind(e) for e in read_examples(path, "skill")] == ["math", "coding"]
