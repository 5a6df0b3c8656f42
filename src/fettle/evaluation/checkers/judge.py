"""Answers judged by a model behind an OpenAI-compatible API."""

from __future__ import annotations

import re
import weakref
from typing import Any

from fettle.config.checkers import JudgeConfig
from fettle.evaluation.checkers.check import Check, Checker, Reference
from fettle.evaluation.checkers.text import shortened
from fettle.evaluation.openai_api import OpenAIApi


def judge_api(config: JudgeConfig) -> OpenAIApi:
    """Its server. Raises MissingExtraError without httpx, ConfigError where the environment lacks the key."""
    return OpenAIApi(config, "the judge")


def judge(config: JudgeConfig, api: OpenAIApi) -> Checker:
    """Asks the judge about each answer; may be called from many threads at once."""
    client = api.client()

    def check(answer: str, against: Reference) -> Check:
        values = {
            "question": against.question,
            "reference": against.right(config.reference_field),
            "answer": middle_cut(answer, config.max_answer_characters),
        }
        request = {
            "model": config.model,
            "messages": [{"role": "user", "content": filled(config.prompt, values)}],
            "temperature": 0,
            "max_tokens": config.max_tokens,
        }
        reply: Any = api.post(client, "chat/completions", request)
        return score(str(reply["choices"][0]["message"]["content"] or ""), config)

    # Its connections stay open between answers, and no longer than somebody can ask.
    weakref.finalize(check, client.close)
    return check


def filled(template: str, values: dict[str, str]) -> str:
    """A template with its places filled in at once: braces in what is filled in mean nothing."""
    return re.sub(r"\{(question|reference|answer)\}", lambda found: values[found[1]], template)


def middle_cut(text: str, most: int) -> str:
    """Beginning and end of a text that is too long, and how much is left out between them."""
    if len(text) <= most:
        return text
    head, left_out = (most + 1) // 2, len(text) - most
    return f"{text[:head]}\n[... {left_out} characters left out ...]\n{text[head + left_out :]}"


def score(reply: str, config: JudgeConfig) -> Check:
    """The score that a reply ends with; unscored where it has none, or one outside of the scale."""
    found = list(re.finditer(config.score_pattern, reply))
    if not found:
        return Check(None, f"the judge gave no score: '{shortened(reply.strip())}'")
    said = found[-1][1] if found[-1].re.groups else found[-1][0]
    try:
        value = float(said)
    except (TypeError, ValueError):
        return Check(None, f"the judge's score '{said}' is no number")
    if not 0 <= value <= config.max_score:
        return Check(None, f"the judge's score {value:g} is not from 0 to {config.max_score:g}")
    correct = value >= config.right_from
    reason = None if correct else f"the judge gave {value:g} of {config.max_score:g}"
    return Check(correct, reason, score=value / config.max_score)
