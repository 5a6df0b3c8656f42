"""Answers judged by a model behind an OpenAI-compatible API."""

from __future__ import annotations

import os
import random
import re
import time
from importlib import import_module
from typing import Any

from loguru import logger

from fettle.config.checkers import JudgeConfig
from fettle.errors import ConfigError, MissingExtraError
from fettle.evaluate.checkers.check import Check, Checker, Reference
from fettle.evaluate.checkers.text import shortened

LONGEST_PAUSE = 60.0
FIRST_PAUSE = 0.5
BUSY = frozenset({408, 409, 425, 429})


def judge(config: JudgeConfig) -> Checker:
    """Asks the judge about each answer; may be called from many threads at once.

    Raises MissingExtraError without httpx, ConfigError where the environment lacks the key.
    """
    try:
        httpx: Any = import_module("httpx")
    except ImportError as error:
        raise MissingExtraError(
            "checker judge needs httpx. Install it with: pip install 'fettle[eval]'"
        ) from error
    client = httpx.Client(timeout=config.timeout_seconds, headers=_headers(config))

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
        return score(_asked(httpx, client, config, request), config)

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


def _headers(config: JudgeConfig) -> dict[str, str]:
    if config.api_key_env is None:
        return {}
    key = os.environ.get(config.api_key_env)
    if not key:
        raise ConfigError(
            f"checker judge: api_key_env: the environment variable {config.api_key_env} is not set. "
            "Export it first."
        )
    return {"Authorization": f"Bearer {key}"}


def _asked(httpx: Any, client: Any, config: JudgeConfig, request: dict[str, Any]) -> str:
    """The judge's reply. Raises ConnectionError where it gave none."""
    address = f"{config.base_url.rstrip('/')}/chat/completions"
    problem = ""
    for attempt in range(config.attempts):
        if attempt:
            logger.debug("the judge is asked again: {}", problem)
        try:
            answer = client.post(address, json=request)
        except httpx.TransportError as error:
            problem, asked_for = f"{type(error).__name__}: {error}", None
        else:
            if answer.status_code == 200:
                return str(answer.json()["choices"][0]["message"]["content"] or "")
            problem, asked_for = f"status {answer.status_code}", answer.headers.get("retry-after")
            if answer.status_code not in BUSY and answer.status_code < 500:
                raise ConnectionError(f"the judge refused: {problem}: {shortened(answer.text)}")
        if attempt + 1 < config.attempts:
            time.sleep(pause(attempt, asked_for))
    raise ConnectionError(f"the judge gave no answer in {config.attempts} attempts: {problem}")


def pause(attempt: int, asked_for: str | None) -> float:
    """Seconds until the next attempt: as the server asks, or twice as long each time with some chance."""
    try:
        return min(LONGEST_PAUSE, max(0.0, float(asked_for or "")))
    except ValueError:
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * random.uniform(0.5, 1.0)
