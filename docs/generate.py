"""Writes the pages that are made from the code (see PAGES); `make docs` runs it, a test compares."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args

from click.testing import CliRunner
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from fettle.cli import COMMANDS, cli
from fettle.cli.lens import COMMANDS as LENS_COMMANDS
from fettle.config import AlertsConfig, Config
from fettle.decide.alerts import CATALOGUE, LEVELS
from fettle.decide.verdict import schema_text

DOCS = Path(__file__).parent
# The tests load this file from elsewhere.
sys.path.insert(0, str(DOCS))

from api_reference import api_reference  # noqa: E402


def cli_reference() -> str:
    """Every command's --help."""
    parts = ["# Commands\n\nEvery command prints errors you can fix as one line and exits with 1.\n"]
    for name in ["", *COMMANDS, *(f"lens {name}" for name in LENS_COMMANDS)]:
        arguments = [*name.split(), "--help"]
        shown = CliRunner().invoke(cli, arguments, prog_name="fettle", terminal_width=100).output.rstrip()
        parts.append(f"## `fettle {name}`".rstrip(" `") + f"`\n\n```text\n{shown}\n```\n")
    return "\n".join(parts)


def configuration_reference() -> str:
    """Every key with its default and its docstring."""
    intro = (
        "# Configuration\n\nOne YAML file. Paths are relative to the folder it lies in; every key can be "
        "overridden with `--set section.key=value`. An unknown key is an error.\n"
    )
    return intro + "".join(_section(title, model) for title, model in _models("", Config))


def _models(prefix: str, model: type[BaseModel]) -> list[tuple[str, type[BaseModel]]]:
    found = [(prefix, model)]
    for name, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        if inner is not None:
            found += _models(f"{prefix}{name}.", inner)
    return found


def _model_in(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _section(prefix: str, model: type[BaseModel]) -> str:
    title = f"`{prefix.rstrip('.')}`" if prefix else "Top level"
    rows = ["", f"## {title}", "", "| key | default | meaning |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        if field.is_required():
            default = "required"
        elif _model_in(field.annotation) is not None:
            default = "see below"
        else:
            value = field.get_default(call_default_factory=True)
            default = "" if value is PydanticUndefined else f"`{_yaml(value)}`"
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        rows.append(f"| `{prefix}{name}` | {default} | {meaning} |")
    return "\n".join(rows) + "\n"


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_yaml(item)}' for key, item in value.items())}}}"
    return f"[{', '.join(map(_yaml, value))}]" if isinstance(value, list) else str(value)


def alert_catalogue() -> str:
    """Every alert, the most serious first."""
    defaults = AlertsConfig()
    intro = """\
# Alerts

Found in the event log while a run trains, by the recorder of `fettle train` and of the callback alike;
replaying a log finds the same ones. Each says what is wrong, with its numbers, and what to do, with the
checkpoint and the learning rate to use. `stalled_run` is found by who reads the run, for what hangs cannot
say so.

The threshold of an alert is the key of its name in the `alerts` section of the
[configuration](configuration.md); `null` turns it off. An alert is told once and holds until its number is
clearly back (`hysteresis`, by default a tenth of the threshold). One that was resolved stays quiet for
`cooldown_steps`, twice as long each time it comes back, except `nan_loss`. The `notify` section says who is
told: a webhook (JSON, Slack or Discord) or a program. Open alerts are part of `fettle verdict`.

| name | level | when | over when | default threshold | what to do |
|---|---|---|---|---|---|
"""
    rows = [
        f"| `{kind.category}` | {kind.level} | {kind.fires} | {kind.clears} "
        f"| `{_yaml(getattr(defaults, kind.category))}` | {kind.action} |"
        for level in reversed(LEVELS)
        for kind in CATALOGUE
        if kind.level == level
    ]
    return intro + "\n".join(rows) + "\n"


def verdict_reference() -> str:
    """Every field of `fettle verdict --json`."""
    schema: dict[str, Any] = json.loads(schema_text())
    intro = (
        "# The verdict as JSON\n\n"
        f"{schema['description']} `fettle verdict --schema` prints its JSON schema; `schema_version` rises\n"
        "when a field changes its meaning or goes. New fields may come at any time.\n"
    )
    parts = [
        intro,
        _fields("Top level", schema, schema),
        _fields("`evidence`", schema["properties"]["evidence"], schema),
    ]
    parts += [_fields(f"A `{name}`", shape, schema) for name, shape in schema["$defs"].items()]
    return "\n".join(parts)


def _fields(title: str, shape: dict[str, Any], schema: dict[str, Any]) -> str:
    rows = [f"## {title}", "", *([] if shape is schema else [shape["description"], ""])]
    return "\n".join([*rows, "| field | type | meaning |", "|---|---|---|", *_field_rows("", shape)]) + "\n"


def _field_rows(prefix: str, shape: dict[str, Any]) -> list[str]:
    rows: list[str] = []
    for name, field in shape["properties"].items():
        options = field.get("anyOf", [field])
        meaning = field.get("description") or f"See `{_type(field)}` below."
        if "enum" in field:
            meaning += " One of " + ", ".join(f"`{value}`" for value in field["enum"]) + "."
        rows.append(f"| `{prefix}{name}` | {' or '.join(map(_type, options))} | {meaning} |")
        inner = next((option for option in options if "properties" in option), None)
        # `evidence` is a table of its own.
        if inner is not None and name != "evidence":
            rows += _field_rows(f"{prefix}{name}.", inner)
    return rows


def _type(shape: dict[str, Any]) -> str:
    if "$ref" in shape:
        return shape["$ref"].rsplit("/", 1)[1]
    kind = shape["type"]
    names = kind if isinstance(kind, list) else [kind]
    if "array" in names and "items" in shape:
        names = [f"array of {_type(shape['items'])}" if name == "array" else name for name in names]
    return " or ".join(names)


PAGES = {
    "cli.md": cli_reference,
    "configuration.md": configuration_reference,
    "alerts.md": alert_catalogue,
    "verdict.md": verdict_reference,
    "api.md": api_reference,
}

if __name__ == "__main__":
    for page, text in PAGES.items():
        (DOCS / page).write_text(text(), encoding="utf-8")
