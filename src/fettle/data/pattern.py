"""Which kind of prompt an example is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Sequence as Collection

from fettle.data.example import Example, message_text
from fettle.runs.records import OTHER

WORDS = re.compile(r"[\w ]+")


class PatternClassifier:
    """Kinds of prompts by ordered rules: words, and regular expressions.

    `rules` is kind -> expressions; the first kind with an expression in the text counts. Plain
    words match as whole words, whatever the white space between them ("listen" holds no "list");
    what has other characters is a regular expression as it stands. Case does not matter.
    """

    def __init__(self, rules: Mapping[str, Collection[str]]) -> None:
        self._rules = [(name, [_compiled(text) for text in texts]) for name, texts in rules.items()]

    def kind(self, example: Example) -> str:
        """What the example's line says, else what the last user turn before its last answer is like.

        `other` where no rule matches, or no user speaks.
        """
        if example.pattern:
            return example.pattern
        asked = [message for message in example.prompt if message["role"] == "user"]
        return self.kind_of_text(message_text(asked[-1])) if asked else OTHER

    def kind_of_text(self, text: str) -> str:
        """The first kind whose rules match; `other` where none does."""
        return next((name for name, rules in self._rules if any(r.search(text) for r in rules)), OTHER)


def _compiled(text: str) -> re.Pattern[str]:
    if WORDS.fullmatch(text):
        words = r"\s+".join(text.split())
        text = rf"(?<!\w){words}(?!\w)"
    return re.compile(text, re.IGNORECASE)
