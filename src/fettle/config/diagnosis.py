"""From what pydantic found wrong to lines a person can act on: file, line, section, key, value, cure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fettle.config.config import Config
from fettle.config.document import KeyPath
from fettle.config.keys import closest, meant
from fettle.config.strict import DISAGREEMENT, Strict

_EXAMPLES = {
    "model": "model: Qwen/Qwen3-0.6B",
    "data": "data: {train: train.jsonl, fixed_eval: valid.jsonl}",
    "data.train": "train: train.jsonl",
}


@dataclass(frozen=True, slots=True)
class Origins:
    """Where each key was written: a line of the file or an override."""

    name: str
    """The file as the user named it."""
    lines: dict[KeyPath, int]
    overrides: dict[KeyPath, str]
    """Path -> the argument of --set as it was typed."""

    def place(self, path: KeyPath) -> tuple[int, str]:
        """A sort key and the words for the nearest place above `path` that was written somewhere."""
        for length in range(len(path), 0, -1):
            above = path[:length]
            if above in self.overrides:
                order = list(self.overrides).index(above)
                return 10**9 + order, f"--set {self.overrides[above]}"
            if above in self.lines:
                return self.lines[above], f"{self.name}:{self.lines[above]}"
        return 0, self.name


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and where."""

    path: KeyPath
    """Of the key; its parents are the section."""
    text: str

    def render(self, origins: Origins) -> str:
        section = ".".join(str(part) for part in self.path[:-1] if isinstance(part, str))
        _, place = origins.place(self.path)
        return f"{place}{f' [{section}]' if section else ''}: {self.text}"


def report(findings: Sequence[Finding], origins: Origins) -> str:
    """All findings, one line each, in the order of the file, overrides last."""
    ordered = sorted(findings, key=lambda finding: origins.place(finding.path)[0])
    return "\n".join(dict.fromkeys(finding.render(origins) for finding in ordered))


def findings(error: ValidationError, model: type[Strict] = Config) -> list[Finding]:
    """What pydantic found wrong with a `model`, each once.

    A key that is missing only because it is misspelt is not reported twice.
    """
    details = error.errors(include_url=False)
    unknown = [detail for detail in details if detail["type"] == "extra_forbidden"]
    suggested = {_meant(detail["loc"], model) for detail in unknown}
    kept = [
        detail
        for detail in details
        if not (detail["type"] == "missing" and _covered(".".join(map(str, detail["loc"])), suggested))
    ]
    return [finding for detail in kept for finding in _findings(detail, model)]


def _covered(missing: str, suggested: set[str | None]) -> bool:
    """Whether a missing key, or one below a missing section, is what a misspelt one was meant to be."""
    return any(key is not None and (key == missing or key.startswith(f"{missing}.")) for key in suggested)


def _meant(path: KeyPath, model: type[Strict]) -> str | None:
    return meant(".".join(str(part) for part in path[:-1]), str(path[-1]), model)


def _findings(detail: ErrorDetails, model: type[Strict]) -> list[Finding]:
    if detail["type"] == DISAGREEMENT:
        problems: dict[str, str] = detail.get("ctx", {})["problems"]
        return [Finding((*detail["loc"], *key.split(".")), text) for key, text in problems.items()]
    return [_finding(detail, model)]


def _finding(detail: ErrorDetails, model: type[Strict]) -> Finding:
    path = detail["loc"]
    name = str(path[-1]) if path else ""
    if detail["type"] == "extra_forbidden":
        return Finding(path, f"unknown key '{name}'. {_suggestion(path, model)}")
    if detail["type"] == "missing":
        dotted = ".".join(map(str, path))
        example = _EXAMPLES.get(dotted)
        return Finding(path, f"missing key '{name}'.{f' Add: {example}' if example else ''}")
    key = ".".join(str(part) for part in _named(path))
    return Finding(_named(path, whole=True), f"{key} = {shown(detail['input'])}: {cure(detail)}")


def _named(path: KeyPath, *, whole: bool = False) -> KeyPath:
    """The key's own name (with its section when `whole`), an index kept, union branches dropped."""
    keys = tuple(part for part in path if isinstance(part, int) or part.isidentifier())
    if whole:
        return keys
    last_name = max((i for i, part in enumerate(keys) if isinstance(part, str)), default=0)
    return keys[last_name:]


def _suggestion(path: KeyPath, model: type[Strict]) -> str:
    section, name = ".".join(str(part) for part in path[:-1]), str(path[-1])
    key = _meant(path, model)
    if key is None:
        return f"The documentation lists the keys{f' of {section}' if section else ''}"
    parent, _, leaf = key.rpartition(".")
    if parent == section:
        return f"Did you mean '{leaf}'?"
    where = f"under '{parent}'" if parent else "at the top level, outside any section"
    if leaf == name:
        return f"'{leaf}' belongs {where}"
    return f"Did you mean '{leaf}', {where}?"


def shown(value: Any) -> str:
    """A value as the file would hold it, cut short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = f"'{value}'" if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def cure(detail: ErrorDetails) -> str:
    """What the value has to be."""
    kind, context = detail["type"], detail.get("ctx", {})
    limits = {
        "greater_than": "must be greater than {gt}",
        "greater_than_equal": "must be at least {ge}",
        "less_than": "must be less than {lt}",
        "less_than_equal": "must be at most {le}",
    }
    if kind in limits:
        return limits[kind].format(**context)
    if kind == "literal_error":
        return _choice(detail["input"], str(context.get("expected", "")))
    return _TYPES.get(kind, detail["msg"])


_TYPES = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be text; put it in quotes if it is meant so",
    "is_instance_of": "must be a path",
    "path_type": "must be a path",
    "list_type": "must be a list",
    "model_type": "must be a section of keys",
    "dict_type": "must be a section of keys",
}


def _choice(value: Any, expected: str) -> str:
    """The allowed words, and the one the value was most likely meant to be."""
    words = expected.replace("'", "").replace(" or ", ", ").split(", ")
    near = closest(value.lower(), words, 0.6) if isinstance(value, str) else None
    return f"must be one of {', '.join(words)}." + (f" Did you mean '{near}'?" if near else "")
