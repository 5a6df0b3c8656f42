"""Chats from JSONL: one example a line."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import orjson
import xxhash

from fettle.errors import DataError

SHOWN_PROBLEMS = 5
CHAT_FIELDS = frozenset({"messages", "prompt", "completion", "tools"})
Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation and where it came from."""

    messages: list[Message]
    pattern: str = ""
    """Kind of prompt that the line itself names; "" where it names none."""
    source: Path = field(default_factory=Path)
    line: int = 0
    tools: list[Any] | None = None
    given: int = 0
    """Leading messages that a `prompt` gave: no loss falls on them."""
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    """What else stands in the line: choices, tests, a schema."""

    @property
    def answers(self) -> list[int]:
        """Indices of the assistant messages."""
        return [i for i, message in enumerate(self.messages) if message["role"] == "assistant"]

    def learned_answers(self, *, only_last: bool) -> list[int]:
        """Indices of those that carry loss: not given by a prompt, and without `"weight": 0`."""
        learned = [i for i in self.answers if i >= self.given and self.messages[i].get("weight") != 0]
        return learned[-1:] if only_last else learned

    @property
    def id(self) -> str:
        """Content hash of the messages."""
        return xxhash.xxh3_64_hexdigest(orjson.dumps(self.messages, option=orjson.OPT_SORT_KEYS))

    @property
    def prompt(self) -> list[Message]:
        """The messages before the last answer."""
        last = max(i for i, message in enumerate(self.messages) if message["role"] == "assistant")
        return self.messages[:last]


def message_text(message: Message) -> str:
    """What a message says, the text parts of a list of parts one a line; "" where it says nothing."""
    content: Any = message.get("content")
    if isinstance(content, list):
        parts = [cast("Message", p) for p in cast("list[Any]", content) if isinstance(p, dict)]
        return "\n".join(str(part["text"]) for part in parts if "text" in part)
    return str(content or "")


def read_examples(path: Path, pattern_field: str = "pattern") -> list[Example]:
    """Examples of a JSONL file with `messages`, or with `prompt` and `completion`.

    `pattern_field` names the field that tells the kind of a prompt. Raises DataError that names every
    malformed line (the first few, and how many more).
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    examples: list[Example] = []
    problems: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            examples.append(_example(line, path, number, pattern_field))
        except DataError as error:
            problems.append(str(error))
    if problems:
        more = len(problems) - SHOWN_PROBLEMS
        tail = [f"... and {more} more lines of {path}"] if more > 0 else []
        raise DataError("\n".join(problems[:SHOWN_PROBLEMS] + tail))
    if not examples:
        raise DataError(f"{path}: is empty. It needs one chat a line")
    return examples


def choose_samples(examples: Sequence[Example], max_samples: int, seed: int) -> list[Example]:
    """At most `max_samples` of them, chosen at random with the seed, in their own order."""
    return [examples[i] for i in choose_indices(len(examples), max_samples, seed)]


def choose_indices(count: int, at_most: int, seed: int) -> list[int]:
    """At most `at_most` of the first `count` whole numbers, chosen at random with the seed, rising."""
    if count <= at_most:
        return list(range(count))
    return sorted(random.Random(seed).sample(range(count), at_most))


def _example(line: bytes, path: Path, number: int, pattern_field: str) -> Example:
    where = f"{path}:{number}"
    try:
        value: Any = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise DataError(f"{where}: is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f'{where}: is no object. A line is {{"messages": [...]}}')
    row = cast("dict[str, Any]", value)
    messages, given = _messages(row, where)
    pattern = row.get(pattern_field, "")
    if not isinstance(pattern, str):
        raise DataError(f"{where}: {pattern_field} must be a string, not {type(pattern).__name__}")
    others = {name: value for name, value in row.items() if name not in CHAT_FIELDS}
    return Example(messages, pattern, path, number, row.get("tools"), given, others)


def _messages(row: dict[str, Any], where: str) -> tuple[list[Message], int]:
    """The conversation, and how many of its messages are the prompt."""
    given = 0
    if "messages" in row:
        messages = row["messages"]
    elif "prompt" in row and "completion" in row:
        prompt = _turns(row["prompt"], "user")
        given = len(prompt)
        messages = [*prompt, *_turns(row["completion"], "assistant")]
    else:
        raise DataError(f"{where}: has neither messages nor prompt and completion, but {sorted(row)[:5]}")
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{where}: messages must be a list of at least one message")
    for i, message in enumerate(cast("list[Any]", messages)):
        _check_message(message, f"{where}: message {i + 1}")
    answers = cast("list[Message]", messages)[given:]
    if not any(message["role"] == "assistant" for message in answers):
        raise DataError(f"{where}: has no assistant message, so there is nothing to learn from it")
    return cast("list[Message]", messages), given


def _turns(value: Any, role: str) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else [{"role": role, "content": value}]


def _check_message(value: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise DataError(f"{where} is no object with role and content")
    message = cast("Message", value)
    if not isinstance(message.get("role"), str):
        raise DataError(f"{where} has no role")
    content = message.get("content")
    calls = message.get("tool_calls")
    if not isinstance(content, (str, list)) and not (content is None and calls):
        raise DataError(f"{where} ({message['role']}) has no content")
