"""Whether an answer has the form it must have: JSON, JSON of a schema, a regular expression."""

from __future__ import annotations

import re
from typing import Any

from fettle.config import PredictionsConfig
from fettle.metrics.json_text import json_errors, schema_validator


class AnswerFormat:
    """Checks answers. Raises ConfigError for a schema that is none."""

    def __init__(self, config: PredictionsConfig) -> None:
        self._schema = config.json_schema
        self._regex = re.compile(config.regex) if config.regex is not None else None
        self._validator = schema_validator(self._schema, "predictions.json_schema") if self._schema else None
        kinds = {
            "json": self._schema is not None and not self._schema,
            "json_schema": bool(self._schema),
            "regex": self._regex is not None,
        }
        self.kind = "+".join(kind for kind, asked in kinds.items() if asked) or None
        """What is checked; None where nothing is."""

    def check(self, text: str) -> dict[str, Any]:
        """`validation_kind`, `validation_pass` and `validation_errors`; all None where nothing is checked."""
        errors = [*self._json_errors(text), *self._regex_errors(text)]
        return {
            "validation_kind": self.kind,
            "validation_pass": None if self.kind is None else not errors,
            "validation_errors": None if self.kind is None else errors,
        }

    def _json_errors(self, text: str) -> list[str]:
        if self._schema is None:
            return []
        return json_errors(text, self._validator)

    def _regex_errors(self, text: str) -> list[str]:
        if self._regex is None or self._regex.search(text):
            return []
        return [f"no match of {self._regex.pattern}"]
