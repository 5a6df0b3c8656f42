"""From the settings of a checker to the checker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fettle.config.checkers import CheckerConfig, JudgeConfig
from fettle.evaluation.checkers.check import Checker
from fettle.evaluation.checkers.choice import choice
from fettle.evaluation.checkers.code_answer import code_answer
from fettle.evaluation.checkers.custom import custom
from fettle.evaluation.checkers.json_answer import json_answer
from fettle.evaluation.checkers.judge import judge, judge_api
from fettle.evaluation.checkers.math_answer import math_answer
from fettle.evaluation.checkers.tags import within_tag
from fettle.evaluation.checkers.text import exact, normalised, number, regex
from fettle.evaluation.openai_api import OpenAIApi

MAKERS: dict[str, Callable[[Any], Checker]] = {
    "exact": exact,
    "normalised": normalised,
    "number": number,
    "regex": regex,
    "choice": choice,
    "json": json_answer,
    "math": math_answer,
    "code": code_answer,
    "custom": custom,
}


def build_checker(config: CheckerConfig, api: OpenAIApi | None = None) -> Checker:
    """The checker that the settings ask for. Raises ConfigError or MissingExtraError where it cannot be had.

    `api` is how a judge is asked. Call the checker through `judged`, so that an answer it cannot judge is
    unscored.
    """
    if isinstance(config, JudgeConfig):
        checker = judge(config, api or judge_api(config))
    else:
        checker = MAKERS[config.kind](config)
    return checker if config.tag is None else within_tag(checker, config.tag)
