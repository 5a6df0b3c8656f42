"""What a checker is given and what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fettle.data.example import Example, message_text


@dataclass(frozen=True, slots=True)
class Reference:
    """What an answer is judged by."""

    text: str
    """The right answer, as the last assistant message of the data has it."""
    question: str = ""
    """What was asked last."""
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Other fields of the data line: choices, tests, a schema."""

    def right(self, name: str | None) -> str:
        """The right answer in the field `name`, or that of the data. Raises KeyError that names the field."""
        if name is None:
            return self.text
        value = self.needed(name)
        return value if isinstance(value, str) else str(value)

    def needed(self, name: str) -> Any:
        """A field of the data line. Raises KeyError that says what is missing."""
        if name not in self.fields:
            raise KeyError(f"the data line has no field '{name}'")
        return self.fields[name]


@dataclass(frozen=True, slots=True)
class Check:
    """What a checker says of one answer. Form and correctness are told apart."""

    correct: bool | None
    """None where it could not be judged, which is not wrong: `reason` says why."""
    reason: str | None = None
    """Why it is not right, or could not be judged."""
    formatted: bool | None = None
    """Whether the answer has the form that was asked for; None where none was."""
    score: float | None = None
    """What a judge gave, in [0, 1]."""


Checker = Callable[[str, Reference], Check]


def reference(example: Example) -> Reference:
    """What the last learned answer of an example is judged by."""
    at = example.learned_answers(only_last=True)[-1]
    asked = [message_text(m) for m in example.messages[:at] if m["role"] == "user"]
    return Reference(message_text(example.messages[at]), asked[-1] if asked else "", example.fields)


def judged(checker: Checker, answer: str, against: Reference) -> Check:
    """What the checker says; where it raises, the answer is unscored with the reason, never wrong."""
    try:
        return checker(answer, against)
    except KeyError as error:
        return Check(None, str(error.args[0]) if error.args else "KeyError")
    except Exception as error:  # noqa: BLE001 - one answer that cannot be judged must not end the others
        return Check(None, f"{type(error).__name__}: {error}")
