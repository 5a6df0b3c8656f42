"""Whether an answer has the form it must have: JSON, JSON of a schema, a regular expression."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

import orjson

from fettle.config import PredictionsConfig
from fettle.errors import ConfigError


class AnswerFormat:
    """Checks answers. Raises ConfigError for a schema that is none."""

    def __init__(self, config: PredictionsConfig) -> None:
        self._schema = config.json_schema
        self._regex = re.compile(config.regex) if config.regex is not None else None
        self._validator = _validator(self._schema) if self._schema else None
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
        try:
            value: Any = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            return [f"no JSON: {error}"]
        if self._validator is None:
            return []
        return [f"{error.json_path}: {error.message}" for error in self._validator.iter_errors(value)]

    def _regex_errors(self, text: str) -> list[str]:
        if self._regex is None or self._regex.search(text):
            return []
        return [f"no match of {self._regex.pattern}"]


def _validator(schema: dict[str, Any]) -> Any:
    try:
        jsonschema: Any = import_module("jsonschema")
    except ImportError as error:
        raise ConfigError(
            "predictions.json_schema needs jsonschema. Install it with: pip install 'fettle[train]'"
        ) from error
    kind: Any = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        message = f"predictions.json_schema: is no JSON schema: {error.json_path}: {error.message}"
        raise ConfigError(message) from error
    return kind(schema)
