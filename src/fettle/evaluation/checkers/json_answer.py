"""Answers that are JSON."""

from __future__ import annotations

from typing import Any

import orjson

from fettle.config.checkers import JsonConfig
from fettle.evaluation.checkers.blocks import blocks
from fettle.evaluation.checkers.check import Check, Checker, Reference
from fettle.metrics.json_text import json_equal, json_errors, schema_validator


def json_answer(config: JsonConfig) -> Checker:
    """Well-formed where the answer is JSON that fits the schema; right where it also is the reference.

    The last fenced block counts where there is one.
    """
    shared = schema_validator(config.json_schema, "checker json: json_schema") if config.json_schema else None

    def check(answer: str, against: Reference) -> Check:
        validator = shared
        if config.schema_field is not None:
            validator = schema_validator(against.needed(config.schema_field), config.schema_field)
        text = blocks(answer)[-1]
        if problems := json_errors(text, validator):
            return Check(False, problems[0], formatted=False)
        if not config.compare:
            return Check(True, formatted=True)
        try:
            right: Any = orjson.loads(against.right(config.reference_field))
        except orjson.JSONDecodeError as error:
            return Check(None, f"the reference is no JSON: {error}", formatted=True)
        same = json_equal(orjson.loads(text), right)
        return Check(same, None if same else "another value", formatted=True)

    return check
