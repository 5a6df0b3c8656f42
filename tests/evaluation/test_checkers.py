"""Answer checkers on hand-worked cases, form told apart from correctness, and on hostile answers."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fettle.config import checker_config
from fettle.data import Example
from fettle.errors import ConfigError
from fettle.evaluation.checkers import (
    Check,
    Checker,
    Reference,
    build_checker,
    judged,
    rank_choices,
    reference,
)


def verdict(settings: dict[str, Any] | str, answer: str, right: str, **fields: Any) -> Check:
    return judged(built(json.dumps(settings)), answer, Reference(right, "?", fields))


@lru_cache
def built(settings: str) -> Checker:
    """One that has a process of its own starts it once."""
    return build_checker(checker_config(json.loads(settings)))


@pytest.mark.parametrize(
    ("settings", "answer", "right", "correct"),
    [
        ("exact", " Paris\n", "Paris", True),
        ("exact", "paris", "Paris", False),
        ("normalised", "The Paris.", "paris", True),
        ("normalised", "Paris, France", "Paris", False),
        ({"kind": "normalised", "normaliser": "number"}, "about 1,000", "1000.0", True),
        ("number", "first 3, then #### 1,250", "10 + 5\n#### 1250", True),
        ("number", "it is 42", "#### 42", True),
        ("number", "#### 41 of 42", "#### 42", True),
        ("number", "41", "#### 42", False),
        ("number", "no idea", "#### 42", False),
        ("number", "nan", "#### 42", False),
        ("number", "42", "no number", None),
        ({"kind": "number", "relative_tolerance": 0.01}, "3.14", "3.14159", True),
        ({"kind": "regex", "pattern": r"x = (\d+)"}, "x = 1, so x = 12", "12", True),
        ({"kind": "regex", "pattern": r"x = (\d+)"}, "x = 1, so x = 12", "1", False),
        ({"kind": "regex", "pattern": r"x = (\d+)"}, "y", "1", False),
        ({"kind": "regex", "pattern": r"\d+"}, "1 2", "2", True),
    ],
)
def test_texts_and_numbers(
    settings: dict[str, Any] | str, answer: str, right: str, correct: bool | None
) -> None:
    found = verdict(settings, answer, right)
    assert found.correct is correct
    assert (found.reason is None) == (correct is True)


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"), ("b)", "B"),
        ("(B)", "B"), ("**B**", "B"), ("B. Lyon", "B"), ("B) because A is wrong", "B"),
        ("The answer is B", "B"), ("Answer: (C)", "C"), ("First I thought A, but the answer is **D**.", "D"),
        (r"so \boxed{C}", "C"), (r"\boxed{\text{C}}", "C"), ("A is close, (B) is closer", "B"),
        ("Lyon", "B"), ("the lyon!", "B"), ("A city I like", None), ("", None), ("E", None), ("none", None),
        ("answer is A. No: the answer is C", "C"),
    ],
)  # fmt: skip
def test_the_letter_an_answer_settles_on(answer: str, letter: str | None) -> None:
    choices = ["Paris", "Lyon", "Nice", "Lille"]
    found = [verdict("choice", answer, right, choices=choices).correct for right in "ABCD"]
    assert found == [right == letter for right in "ABCD"]
    assert verdict("choice", answer, "A", choices=choices).formatted is (letter is not None)


def test_the_reference_of_a_choice_is_a_letter_a_text_or_an_index() -> None:
    for right in ("B", "Lyon", "1", "(B)"):
        assert verdict("choice", "B", right, choices=["Paris", "Lyon"]).correct is True
    assert verdict("choice", "E", "E").correct is None  # four letters where nothing is listed
    assert verdict({"kind": "choice", "choices": 5}, "E", "E").correct is True
    by_field = {"kind": "choice", "reference_field": "label"}
    assert verdict(by_field, "B", "whatever", choices=["Paris", "Lyon"], label=1).correct is True


def test_ranking_by_likelihood_is_that_of_the_harness() -> None:
    """Worked by hand: per character the longer choice wins, per byte the ASCII one."""
    found = rank_choices([-4.0, -6.0, -6.5], ["no", "éééé", "never"])
    assert found is not None
    assert (found.by_sum, found.by_character, found.by_byte) == (0, 2, 1)
    weight = np.exp([-4.0, -6.0, -6.5])
    np.testing.assert_allclose(found.probability, weight / weight.sum())
    assert rank_choices([-1.0, np.nan], ["a", "b"]) is None
    assert rank_choices([-5000.0, -5001.0], ["a", "b"]) is not None
    with pytest.raises(ValueError, match="2 sums"):
        rank_choices([-1.0, -2.0], ["a"])


SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("settings", "answer", "right", "expected"),
    [
        ({}, '{"a": 1, "b": [2]}', '{"b": [2.0], "a": 1}', (True, True)),
        ({}, 'Here:\n```json\n{"a": 1}\n```\nDone.', '{"a": 1}', (True, True)),
        ({}, "[true]", "[1]", (False, True)),
        ({}, "[1, 2]", "[1]", (False, True)),
        ({}, '{"a": 1}', '{"b": 1}', (False, True)),
        ({}, "{'a': 1}", '{"a": 1}', (False, False)),
        ({}, "[NaN]", "[1]", (False, False)),
        ({}, "1", "no json", (None, True)),
        ({"json_schema": SCHEMA}, '{"n": 3}', '{"n": 3}', (True, True)),
        ({"json_schema": SCHEMA}, '{"n": "3"}', '{"n": "3"}', (False, False)),
        ({"json_schema": SCHEMA, "compare": False}, '{"n": 4}', "", (True, True)),
        ({"schema_field": "schema"}, "{}", "{}", (False, False)),
    ],
)
def test_json(settings: dict[str, Any], answer: str, right: str, expected: tuple[Any, Any]) -> None:
    found = verdict({"kind": "json", **settings}, answer, right, schema=SCHEMA)
    assert (found.correct, found.formatted) == expected


@pytest.mark.parametrize("depth", [900, 1000, 100_000, 5_000_000])
def test_deep_json_is_judged_and_breaks_nothing(depth: int) -> None:
    text = "[" * depth + "]" * depth
    expected = depth <= 1000
    assert verdict("json", text, "[" * 900 + "]" * 900).correct is (depth == 900)
    assert verdict("json", text, "1").formatted is expected


def test_a_schema_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"checker json: json_schema: is no JSON schema"):
        build_checker(checker_config({"kind": "json", "json_schema": {"type": "nonsense"}}))


@pytest.mark.parametrize(
    ("answer", "correct", "formatted"),
    [
        ("I think <answer>42</answer>", True, True),
        ("I think <answer>41</answer>", False, True),
        ("42", True, False),
        ("<answer>42", True, False),
        ("42</answer> or 7", True, False),
        ("<answer>7</answer><answer>42</answer>", True, False),
        ("</answer>42<answer>", False, False),
        ("it is 7 <answer></answer>", False, True),
    ],
)
def test_form_does_not_hide_ability(answer: str, correct: bool, formatted: bool) -> None:
    found = verdict({"kind": "exact", "tag": "answer"}, answer, "42")
    assert (found.correct, found.formatted) == (correct, formatted)


def test_a_pattern_without_end_leaves_the_answer_unscored() -> None:
    settings = {"kind": "regex", "pattern": r"(x+x+)+y", "timeout_seconds": 0.2}
    found = verdict(settings, "x" * 5_000, "y")
    assert found.correct is None
    assert found.reason == "the pattern took longer than 0.2 s"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["exact", "normalised", "number", "regex", "choice", "json", "math"])
@pytest.mark.parametrize("unit", ["A ", "1,", "(", "{", "```", "\x00", "<answer>"])
@pytest.mark.parametrize("megabytes", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_megabytes_are_judged(kind: str, unit: str, megabytes: int) -> None:
    settings = {"kind": kind, "tag": "answer"} | ({"pattern": r"is (\d+)"} if kind == "regex" else {})
    found = verdict(settings, unit * (1_000_000 * megabytes // len(unit)), "B 42 7")
    assert found.correct is not True


@pytest.mark.parametrize(
    ("answer", "right", "correct"),
    [
        (r"so $\frac{1}{2}$", "0.5", True),
        (r"\boxed{2\sqrt{3}}", r"$\sqrt{12}$", True),
        (r"\frac{2}{4}", r"\frac{1}{2}", True),
        ("$x^2 + 2x + 1$", "$(x+1)^2$", True),
        (r"$\frac{1}{3}$", "0.5", False),
        ("I do not know", "0.5", False),
        ("1", "", None),
    ],
)
def test_mathematics(answer: str, right: str, correct: bool | None) -> None:
    pytest.importorskip("math_verify")
    assert verdict("math", answer, right).correct is correct


@pytest.mark.timeout(120)
def test_mathematics_without_end_is_unscored_and_the_next_is_judged() -> None:
    pytest.importorskip("math_verify")
    check = build_checker(checker_config({"kind": "math", "timeout_seconds": 1.0}))
    found = judged(check, "$9^{9^{9^{9}}}$", Reference("$7^{7^{7^{7}}}$"))
    assert found.correct is None
    assert judged(check, "$2$", Reference("2")).correct is True


def test_a_custom_checker_is_one_function(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def longer(answer, reference):\n    return len(answer) > reference.fields['length']\n"
        "def share(answer, reference):\n    return len(answer) / 10\n"
        "def nothing(answer, reference):\n    return None\n"
        "def text(answer, reference):\n    return 'yes'\n"
    )
    found = {
        name: verdict({"kind": "custom", "function": f"{file}:{name}"}, "seven", "", length=3)
        for name in ("longer", "share", "nothing", "text")
    }
    assert found["longer"] == Check(True)
    assert (found["share"].correct, found["share"].score) == (True, 0.5)
    assert found["nothing"].correct is None
    assert found["text"].correct is None
    assert "returned str" in (found["text"].reason or "")
    # No such field: unscored, with the reason.
    missing = verdict({"kind": "custom", "function": f"{file}:longer"}, "seven", "")
    assert (missing.correct, missing.reason) == (None, "length")
    too_long = verdict({"kind": "custom", "function": f"{file}:share"}, "x" * 11, "")
    assert too_long.correct is None
    assert verdict({"kind": "custom", "function": "operator:eq"}, "x", "x").correct is False


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        ("no.such.module:f", "cannot be loaded: ModuleNotFoundError"),
        ("os:no_such", "os has no function 'no_such'"),
        ("os:sep", "is no function"),
        ("absent.py:f", "cannot be loaded: FileNotFoundError"),
        ("mine", "no entry point 'mine' in the group fettle.checkers"),
    ],
)
def test_a_custom_checker_that_is_not_there_is_named(function: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        build_checker(checker_config({"kind": "custom", "function": function}))


def test_an_installed_entry_point_is_a_checker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[fettle.checkers]\nshouts = plugged_in:shouts\n")
    (tmp_path / "plugged_in.py").write_text("def shouts(answer, reference):\n    return answer.isupper()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = {"kind": "custom", "function": "shouts"}
    assert [verdict(settings, text, "").correct for text in ("YES", "yes")] == [True, False]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("guess", "kind 'guess' is unknown. Use one of: exact"),
        ({"kind": "number", "tolerance": 1.0}, "tolerance"),
        ({"kind": "regex", "pattern": "("}, "not a regular expression"),
        ({"kind": "judge", "base_url": "ftp://x", "model": "m"}, "base_url"),
        ({"kind": "exact", "tag": "<a>"}, "tag"),
    ],
)
def test_settings_that_cannot_be_are_named(settings: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        checker_config(settings)


def test_the_reference_is_the_last_answer_of_the_data() -> None:
    messages = [
        {"role": r, "content": c} for r, c in [("user", "1+1?"), ("assistant", "2"), ("user", "And 2+2?")]
    ]
    found = reference(Example([*messages, {"role": "assistant", "content": "4"}], fields={"tests": ""}))
    assert (found.text, found.question, found.fields) == ("4", "And 2+2?", {"tests": ""})
    gone = verdict({"kind": "exact", "reference_field": "gold"}, "4", "4")
    assert (gone.correct, gone.reason) == (None, "the data line has no field 'gold'")
