"""control.json: what people ask of the trainer of a run, the newest request last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import token_hex
from time import time
from typing import Any, Literal, cast, get_args

import orjson

from fettle.errors import RunError
from fettle.runs.folder import replace_file

Action = Literal["stop", "pause", "resume", "checkpoint"]
ACTIONS: frozenset[str] = frozenset(get_args(Action))
KEPT = 50
"""Requests that stay in the file: a trainer in a long step must find all that came meanwhile."""


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """One request; the trainer obeys it once."""

    id: str
    action: Action
    requested_at: float
    """Unix seconds."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def ask_trainer(path: Path, action: Action) -> ControlRequest:
    """Add a request to control.json, replaced at once. Raises RunError where the disk refuses."""
    asked = ControlRequest(token_hex(8), action, time())
    try:
        before = read_requests(path) if path.is_file() else []
    except RunError:
        before = []  # What cannot be read was not obeyed either.
    requests = [request.to_json() for request in (*before, asked)][-KEPT:]
    try:
        replace_file(path, orjson.dumps({"requests": requests}, option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error
    return asked


def read_requests(path: Path) -> list[ControlRequest]:
    """Every request of control.json, in order. Raises RunError where it is damaged."""
    try:
        content: Any = orjson.loads(path.read_bytes())
        return [_request(one) for one in content["requests"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: is no list of requests that can be read ({error})") from error


def _request(value: Mapping[str, Any]) -> ControlRequest:
    id, action, asked = value["id"], value["action"], value["requested_at"]
    if not isinstance(id, str) or action not in ACTIONS:
        raise ValueError(f"unknown action {action!r}")
    return ControlRequest(id, cast("Action", action), float(asked))
