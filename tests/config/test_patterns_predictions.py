"""The sections `patterns` and `predictions`: what is accepted, and what every mistake says."""

from __future__ import annotations

from pathlib import Path

import pytest

from fettle.config import (
    Config,
    PatternsConfig,
    check_section,
    config_differences,
    config_hash,
    dump_config,
    load_config,
)
from fettle.errors import ConfigError

SMALL = "model: some/model\ndata: {train: t.jsonl}\n"


def load(folder: Path, text: str, *overrides: str) -> Config:
    path = folder / "train.yaml"
    path.write_text(SMALL + text)
    return load_config(path, overrides)


def test_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, "")
    assert list(config.patterns.rules) == ["coding", "math", "reasoning", "creative", "factual"]
    assert config.patterns.length_bins == [100, 300, 500, 1000, 2000]
    assert config.patterns.field == "pattern"
    asked = config.predictions
    assert (asked.samples, asked.max_new_tokens, asked.every) == (5, 256, "eval")


def test_rules_of_ones_own_replace_the_defaults_and_keep_their_order(tmp_path: Path) -> None:
    text = "patterns:\n  rules: {sql: ['\\bselect\\b'], joke: [joke, funny]}\n  length_bins: [10, 20]\n"
    config = load(tmp_path, text)
    assert list(config.patterns.rules.items()) == [("sql", [r"\bselect\b"]), ("joke", ["joke", "funny"])]
    path = tmp_path / "again.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config
    assert list(load_config(path).patterns.rules) == ["sql", "joke"]


def test_another_order_of_rules_is_another_configuration(tmp_path: Path) -> None:
    a = load(tmp_path, "patterns: {rules: {a: [x], b: [y]}}\n")
    b = load(tmp_path, "patterns: {rules: {b: [y], a: [x]}}\n")
    assert config_hash(a) != config_hash(b)
    assert config_differences(a, a) == []
    [line] = config_differences(a, b)
    assert line.startswith("patterns.rules: ")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("patterns: {rules: {math: ['(']}}", r"'\(' is not a regular expression"),
        ("patterns: {rules: {math: ['x*']}}", r"'x\*' matches every prompt"),
        ("patterns: {rules: {math: []}}", "at least one word for every kind"),
        ("patterns: {rules: {math: sum}}", "must be a list"),
        ("patterns: {length_bins: [300, 100]}", "must be lengths that rise"),
        ("patterns: {length_bins: [0, 100]}", "must be lengths that rise"),
        ("patterns: {length_bins: []}", "must be lengths that rise"),
        ("patterns: {bins: [100]}", "unknown key 'bins'"),
        ("predictions: {every: sometimes}", "must be eval, epoch or a number of steps"),
        ("predictions: {every: 0}", "must be eval, epoch or a number of steps"),
        ("predictions: {every: true}", "must be eval, epoch or a number of steps"),
        ("predictions: {samples: -1}", "samples"),
        ("predictions: {samples: 101}", "samples"),
        ("predictions: {max_new_tokens: 0}", "max_new_tokens"),
        ("predictions: {regex: '['}", r"'\[' is not a regular expression"),
        ("predictions: {json_schema: yes please}", "must be a section of keys"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        load(tmp_path, text + "\n")
    assert "train.yaml" in str(caught.value)


def test_every_by_word_or_number(tmp_path: Path) -> None:
    for given, meant in (("eval", "eval"), ("epoch", "epoch"), ("50", 50)):
        assert load(tmp_path, f"predictions: {{every: {given}}}\n").predictions.every == meant


def test_a_section_of_a_program_is_checked_alike() -> None:
    assert check_section(PatternsConfig, {"length_bins": [5]}, "patterns").length_bins == [5]
    with pytest.raises(ConfigError, match=r"patterns.*unknown key 'bins'"):
        check_section(PatternsConfig, {"bins": [5]}, "patterns")
