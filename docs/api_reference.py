"""The page about the API, from its own description."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fettle.server.app import create_app
from fettle.server.settings import Settings

INTRO = """\
# The API of `fettle serve`

Everything the page shows, read-only unless the server runs with `--control`. The machine-readable description
is at `/api/openapi.json`. `null` is not measured; every JSON answer is finite. A refusal is
`{"detail": "one line"}`.

- **Address.** The server listens on 127.0.0.1. Any other `--host` asks for a token: open the printed address,
  or send `Authorization: Bearer TOKEN`.
- **Ids.** The id of a run is its path below the served folder, with `~` for `/`; `GET /api/runs` lists them.
- **Cursors.** A cursor says where the log of a run stood. Within its segment rows are only added; once a
  resume supersedes some, answers say `rewound`, and the stream `rewind`.
- **Changing something.** POST needs `Content-Type: application/json` and, outside the page, the header
  `X-Fettle: 1`.
"""


def api_reference() -> str:
    """Every operation with its parameters and the fields of its answer."""
    document = create_app(Settings(Path())).openapi()
    shapes: dict[str, Any] = document["components"]["schemas"]
    parts = [INTRO]
    used: dict[str, None] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(_operation(method.upper(), path, operation, used))
    parts.append("## Answers\n")
    pending = list(used)
    # Grows while shapes name others.
    parts += [_shape(name, shapes[name], pending) for name in pending]
    return "\n".join(parts)


def _operation(method: str, path: str, operation: dict[str, Any], used: dict[str, None]) -> str:
    text = [f"## `{method} {path}`\n", operation["description"].strip() + "\n"]
    given = [p for p in operation.get("parameters", []) if p["in"] != "path"]
    if given:
        text += ["| parameter | default | meaning |", "|---|---|---|"]
        text += [_parameter(p) for p in given] + [""]
    body = operation.get("requestBody")
    if body:
        text.append(f"Body: {_link(body['content']['application/json']['schema'], used)}\n")
    code = next(code for code in operation["responses"] if code.startswith("2"))
    content: dict[str, Any] = operation["responses"][code]["content"]
    kinds = [_answer(media, answer.get("schema", {}), used) for media, answer in content.items()]
    text.append(f"Answer: {', '.join(kinds)}\n")
    return "\n".join(text)


def _answer(media: str, schema: dict[str, Any], used: dict[str, None]) -> str:
    return _link(schema, used) if media == "application/json" and "$ref" in schema else f"`{media}`"


def _parameter(parameter: dict[str, Any]) -> str:
    schema = parameter["schema"]
    default = schema.get("default")
    shown = "required" if parameter["required"] else "" if default in (None, "") else f"`{default}`"
    meaning = parameter.get("description") or schema.get("description") or ""
    choices = schema.get("enum") or next((s["enum"] for s in schema.get("anyOf", []) if "enum" in s), None)
    if choices:
        choices = [choice for choice in choices if not choice.startswith("-")]
        meaning = f"{meaning} One of {', '.join(f'`{choice}`' for choice in choices)}.".strip()
    where = " (header)" if parameter["in"] == "header" else ""
    return f"| `{parameter['name']}`{where} | {shown} | {_cell(meaning)} |"


def _shape(name: str, shape: dict[str, Any], pending: list[str]) -> str:
    used: dict[str, None] = {}
    explained = " ".join(shape.get("description", "").split())
    rows = [f"### {name}\n", f"{explained}\n", "| field | type | meaning |", "|---|---|---|"]
    for field, schema in shape.get("properties", {}).items():
        rows.append(f"| `{field}` | {_type(schema, used)} | {_cell(schema.get('description', ''))} |")
    pending += [other for other in used if other not in pending]
    return "\n".join(rows) + "\n"


def _type(schema: dict[str, Any], used: dict[str, None]) -> str:
    if "$ref" in schema:
        return _link(schema, used)
    if "anyOf" in schema:
        return " or ".join(_type(option, used) for option in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'], used)}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'], used)}"
    return str(schema.get("type", "anything"))


def _link(schema: dict[str, Any], used: dict[str, None]) -> str:
    name = schema["$ref"].rsplit("/", 1)[1]
    used[name] = None
    return f"[{name}](#{name.lower()})"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
