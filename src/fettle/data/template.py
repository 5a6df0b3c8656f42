"""Conversations as text, and which characters of it the assistant wrote."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fettle.data.example import Example, Message
from fettle.data.span import Span, answer_start, closing_marker, common_prefix, placeholder_for
from fettle.errors import ModelError


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text, and the spans that carry loss: answers with their end-of-turn marker."""

    text: str
    spans: list[Span]
    closed: bool
    """Whether a marker ends the last answer; a model that never sees one never learns to stop."""


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
        """Text of the conversation up to its last answer, and the spans of the answers that carry loss.

        An answer starts where the generation prompt ends and closes with the
        marker that ends the turn. Raises ModelError when the template leaves
        no way to find it.
        """
        turns = example.answers
        messages = example.messages[: turns[-1] + 1]
        text = self.apply(messages, example.tools)
        learned = example.learned_answers(only_last=only_last)
        spans: list[Span] = []
        before, closed = 0, False
        for turn in turns:
            span = self._span(text, messages, turn, example.tools, before)
            if span is None and turn in learned:
                raise ModelError(
                    f"{example.source}:{example.line}: the chat template of {self._tokenizer.name_or_path} "
                    f"rewrites message {turn + 1}, so no loss mask can be derived. Mark it with "
                    "{% generation %} in the template, or set data.train_on: last."
                )
            if span is not None:
                (start, stop), closed = span
                before = stop
                if turn in learned:
                    spans.append((start, stop))
        return Rendered(text, spans, closed)

    def apply(self, messages: list[Message], tools: Any, *, add_generation_prompt: bool = False) -> str:
        """The conversation as text. Raises ModelError when the template refuses it."""
        from jinja2 import TemplateError

        try:
            return self._tokenizer.apply_chat_template(
                messages, tools=tools, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except (TemplateError, IndexError, ValueError, TypeError, KeyError) as error:
            raise ModelError(
                f"the chat template of {self._tokenizer.name_or_path} refuses a chat: {error}"
            ) from error

    # -- one answer ---------------------------------------------------------------

    def _span(
        self, text: str, messages: list[Message], turn: int, tools: Any, before: int
    ) -> tuple[Span, bool] | None:
        """Where the answer of `turn` stands in `text`, and whether a marker closes it.

        Found by rendering the conversation once more with a placeholder in the
        answer's stead: what stands around the placeholder stands around the answer.
        Searching for the answer's own words would find them in the question too.
        """
        message = messages[turn]
        if message.get("content"):
            placeholder = placeholder_for(text)
            masked = [*messages[:turn], _with_content(message, placeholder), *messages[turn + 1 :]]
            try:
                probe = self.apply(masked, tools)
                alone = self.apply(masked[: turn + 1], tools) if turn + 1 < len(messages) else probe
            except ModelError:
                probe = alone = ""
            if probe.count(placeholder) == 1 == alone.count(placeholder):
                found = self._around(text, probe, alone, placeholder, before)
                if found is not None:
                    start, end = found
                    if not self._generation_prompt:
                        start = self._after_prompt(text, messages[:turn], tools, before, start)
                    tail = alone[alone.index(placeholder) + len(placeholder) :]
                    marker = closing_marker(
                        tail, text[end:], self._special_token, last=bool(message.get("tool_calls"))
                    )
                    return (start, end + len(marker)), bool(marker.strip())
        return self._span_by_prefix(text, messages, turn, tools, before)

    def _around(self, text: str, probe: str, alone: str, placeholder: str, before: int) -> Span | None:
        at = probe.index(placeholder)
        after = probe[at + len(placeholder) :]
        if not text.endswith(after):
            return None
        end = len(text) - len(after)
        shared = min(common_prefix(text, probe), at, end)
        start = answer_start(probe, self._generation_prompt, before=before, shared=shared, at=at)
        return None if start is None else (start, end)

    def _span_by_prefix(
        self, text: str, messages: list[Message], turn: int, tools: Any, before: int
    ) -> tuple[Span, bool] | None:
        """For answers without text of their own, such as tool calls: what the conversation grew by."""
        try:
            upto = self.apply(messages[: turn + 1], tools).rstrip()
        except ModelError:
            return None
        start = self._after_prompt(text, messages[:turn], tools, before, -1)
        if start < 0 or not text.startswith(upto) or len(upto) <= start:
            return None
        specials = list(self._special_token.finditer(upto, start)) if self._special_token else []
        return (start, len(upto)), bool(specials) and specials[-1].end() == len(upto)

    def _after_prompt(
        self, text: str, history: list[Message], tools: Any, before: int, otherwise: int
    ) -> int:
        try:
            prompt = self.apply(history, tools, add_generation_prompt=True)
        except ModelError:
            return otherwise  # Some templates refuse a conversation that does not end as they like.
        fits = text.startswith(prompt) and len(prompt) >= before
        return len(prompt) if fits and (otherwise < 0 or len(prompt) <= otherwise) else otherwise

    @cached_property
    def _generation_prompt(self) -> str:
        """What the template adds to make the model answer; "" where it adds nothing.

        Where a conversation without it ends in some other way (Phi-3 closes it with
        the end of text), the part they share is missing at its beginning.
        """
        question = [{"role": "user", "content": "?"}]
        try:
            plain = self.apply(question, None)
            prompt = self.apply(question, None, add_generation_prompt=True)
        except ModelError:
            return ""
        return prompt[common_prefix(plain, prompt) :]

    @cached_property
    def _special_token(self) -> re.Pattern[str] | None:
        added = getattr(self._tokenizer, "added_tokens_decoder", {})
        names = {token.content for token in added.values() if token.special}
        names |= set(self._tokenizer.all_special_tokens)
        longest_first = sorted((name for name in names if name), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def _with_content(message: Message, text: str) -> Message:
    if isinstance(message["content"], list):
        return {**message, "content": [{"type": "text", "text": text}]}
    return {**message, "content": text}
