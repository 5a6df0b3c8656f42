"""Texts that must be JSON, or JSON of a schema."""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

import orjson

from fettle.errors import ConfigError, MissingExtraError


def json_errors(text: str, validator: Any | None) -> list[str]:
    """What keeps a text from being JSON, or from fitting the schema; empty where nothing does.

    As the standard has it: NaN and infinity are none, nor is what is nested more than 1024 deep.
    """
    try:
        value: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return [f"no JSON: {error}"]
    if validator is None:
        return []
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def schema_validator(schema: dict[str, Any], key: str) -> Any:
    """A validator of the draft that the schema names, 2020-12 by default.

    Raises ConfigError, which names `key`, for a schema that is none.
    """
    try:
        jsonschema: Any = import_module("jsonschema")
    except ImportError as error:
        raise MissingExtraError(
            f"{key} needs jsonschema. Install it with: pip install 'fettle[eval]'"
        ) from error
    kind: Any = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ConfigError(f"{key}: is no JSON schema: {error.json_path}: {error.message}") from error
    return kind(schema)


def json_equal(a: Any, b: Any) -> bool:
    """Whether two JSON values are the same: 1 is 1.0, true is not 1, objects have no order."""
    waiting = [(a, b)]
    while waiting:
        x, y = waiting.pop()
        if isinstance(x, bool) or isinstance(y, bool):
            if x is not y:
                return False
        elif isinstance(x, dict) and isinstance(y, dict):
            left, right = cast("dict[str, Any]", x), cast("dict[str, Any]", y)
            if left.keys() != right.keys():
                return False
            waiting += [(left[key], right[key]) for key in left]
        elif isinstance(x, list) and isinstance(y, list):
            ours, theirs = cast("list[Any]", x), cast("list[Any]", y)
            if len(ours) != len(theirs):
                return False
            waiting += zip(ours, theirs, strict=True)
        elif x != y:
            return False
    return True
