"""Which characters of a rendered chat the assistant wrote."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from fettle.data.example import Example, Message
from fettle.errors import ModelError

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text, and the spans that carry loss: answers with their end-of-turn marker."""

    text: str
    spans: list[Span]


class ChatTemplate:
    """A tokenizer's chat template. Raises ModelError when it has none."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        if not getattr(tokenizer, "chat_template", None):
            raise ModelError(
                f"{tokenizer.name_or_path or 'the tokenizer'} has no chat template. Use the instruct version "
                "of the model, or put a chat_template.jinja beside its tokenizer."
            )

    @property
    def marks_generation(self) -> bool:
        """Whether the template itself says what the assistant generates."""
        return bool(re.search(r"\{%-?\s*generation\s*-?%\}", str(self._tokenizer.chat_template)))

    def render(self, example: Example, *, only_last: bool) -> Rendered:
        """Text of the conversation up to its last answer, and the spans of all answers or the last.

        An answer starts where the generation prompt ends and closes with the
        marker that ends the turn, without the white space behind it. Raises
        ModelError when the template leaves no way to find it.
        """
        turns = [i for i, message in enumerate(example.messages) if message["role"] == "assistant"]
        messages = example.messages[: turns[-1] + 1]
        text = self._apply(messages, example.tools)
        spans: list[Span] = []
        cursor = 0
        for i in turns[-1:] if only_last else turns:
            span = self._span(text, messages, i, example.tools, cursor)
            if span is None:
                raise ModelError(
                    f"{example.source}:{example.line}: the chat template of {self._tokenizer.name_or_path} "
                    f"rewrites message {i + 1}, so no loss mask can be derived. Mark it with "
                    "{% generation %} in the template, or set data.train_on: last."
                )
            spans.append(span)
            cursor = span[1]
        return Rendered(text, spans)

    def _span(self, text: str, messages: list[Message], turn: int, tools: Any, cursor: int) -> Span | None:
        upto = self._apply(messages[: turn + 1], tools)
        try:
            prompt = self._apply(messages[:turn], tools, add_generation_prompt=True)
        except ModelError:
            prompt = None  # Some templates refuse a conversation that does not end as they like.
        closed = len(upto.rstrip())
        if (
            prompt is not None
            and upto.startswith(prompt)
            and text.startswith(upto[:closed])
            and closed > len(prompt)
        ):
            return len(prompt), closed
        return self._span_by_content(text, upto, str(messages[turn].get("content") or "").strip(), cursor)

    def _span_by_content(self, text: str, upto: str, content: str, cursor: int) -> Span | None:
        """For templates that render history otherwise than the last turn: find the answer's own words."""
        start, tail = text.find(content, cursor), upto.rfind(content)
        if not content or start < 0 or tail < 0:
            return None
        marker = upto[tail + len(content) :].rstrip()
        stop = start + len(content)
        return (start, stop + len(marker)) if text.startswith(marker, stop) else None

    def _apply(self, messages: list[Message], tools: Any, *, add_generation_prompt: bool = False) -> str:
        from jinja2 import TemplateError

        try:
            return self._tokenizer.apply_chat_template(
                messages, tools=tools, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except (TemplateError, IndexError, ValueError) as error:
            raise ModelError(
                f"the chat template of {self._tokenizer.name_or_path} refuses a chat: {error}"
            ) from error
