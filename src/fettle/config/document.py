"""A YAML document with the line of every key, read by the rules of YAML 1.2.

PyYAML follows YAML 1.1, where `1e-4` is a string, `off` is false, `010` is 8
and `1:30` is 90. None of them is what an author of a configuration means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import yaml

from fettle.errors import ConfigError

KeyPath = tuple[str | int, ...]

MERGE = "tag:yaml.org,2002:merge"
_NUMBER_START = list("-+.0123456789")
_RESOLVERS: list[tuple[str, re.Pattern[str], list[str]]] = [
    ("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("tag:yaml.org,2002:int", re.compile(r"^(?:[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+)$"), _NUMBER_START),
    (
        "tag:yaml.org,2002:float",
        re.compile(
            r"^(?:[-+]?(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+"
            r"|[-+]?(?:[0-9][0-9_]*\.[0-9]*|\.[0-9]+)|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        _NUMBER_START,
    ),
    (MERGE, re.compile(r"^<<$"), ["<"]),
]


class ConfigLoader(yaml.SafeLoader):
    """Safe YAML in which numbers, switches and null are what YAML 1.2 calls so."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # pyright: ignore[reportIncompatibleVariableOverride] a class attribute there too, the stub says otherwise

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node).replace("_", "")
        return int(text, 16) if text.startswith("0x") else int(text, 10)


class ConfigDumper(yaml.SafeDumper):
    """Quotes whatever this loader, or one of YAML 1.1, would take for something else than text."""


for tag, pattern, first in _RESOLVERS:
    ConfigLoader.add_implicit_resolver(tag, pattern, first)
    if tag.endswith((":float", ":int")):
        ConfigDumper.add_implicit_resolver(tag, pattern, first)
ConfigLoader.add_constructor("tag:yaml.org,2002:int", ConfigLoader.construct_yaml_int)


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: its top mapping, the line of every key, and the keys given twice."""

    values: dict[str, Any]
    lines: dict[KeyPath, int]
    duplicates: list[tuple[KeyPath, int, int]] = field(default_factory=list[tuple[KeyPath, int, int]])
    """Path, line, and the line where the key stood first."""


def parse_value(text: str) -> Any:
    """One YAML value, as it stands after the `=` of an override. Raises ConfigError."""
    try:
        return yaml.load(text, Loader=ConfigLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"not a YAML value: {problem_of(error)}") from None


def parse_document(text: str, name: str) -> Document:
    """The top mapping of a YAML text with its lines; `name` stands in the error. Raises ConfigError."""
    try:
        loader = ConfigLoader(text)
        node = loader.get_single_node()
        document = Document({}, {})
        if node is not None:
            # Before construction: it replaces a merge key (<<) by what it merges.
            _walk(node, (), document, set())
        values = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}{line_of(error)}: not valid YAML: {problem_of(error)}") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply to be a configuration") from None
    except ValueError as error:
        raise ConfigError(f"{name}: not valid YAML: {error}") from None
    if values is None:
        raise ConfigError(f"{name}: the file is empty. It needs at least `model:` and `data: {{train: …}}`")
    if not isinstance(values, dict):
        raise ConfigError(f"{name}: must hold keys and values (`model: …`), not {kind_of(values)}")
    document.values.update(cast("dict[str, Any]", values))
    return document


def _walk(node: yaml.Node, path: KeyPath, document: Document, above: set[int]) -> None:
    """Notes the line of every key below a node; an alias to a node around itself is not followed."""
    if id(node) in above:
        return
    above = above | {id(node)}
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(cast("list[yaml.Node]", node.value)):
            document.lines[(*path, index)] = item.start_mark.line + 1
            _walk(item, (*path, index), document, above)
    elif isinstance(node, yaml.MappingNode):
        _walk_mapping(node, path, document, above)


def _walk_mapping(node: yaml.MappingNode, path: KeyPath, document: Document, above: set[int]) -> None:
    seen: dict[str, int] = {}
    for key, value in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
        if key.tag == MERGE:
            _walk(value, path, document, above)
            continue
        name, line = str(key.value), key.start_mark.line + 1
        if name in seen:
            document.duplicates.append(((*path, name), line, seen[name]))
        seen.setdefault(name, line)
        document.lines[(*path, name)] = line
        _walk(value, (*path, name), document, above)


def kind_of(value: object) -> str:
    """A value's type in the words of a configuration file."""
    if value is None:
        return "nothing"
    kinds = {
        bool: "a switch",
        str: "text",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "a section",
    }
    kind: type[Any] = type(value)
    return kinds.get(kind, f"a {kind.__name__}")


def line_of(error: yaml.YAMLError) -> str:
    """`:line` of a syntax error, empty where PyYAML knows none."""
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return "" if mark is None else f":{mark.line + 1}"


def problem_of(error: yaml.YAMLError) -> str:
    """A syntax error in one line, with the cure where it is a common one."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    problem = error.problem or error.context or "syntax error"
    if "'\\t'" in problem:
        return "a tab where spaces belong. Indent with spaces"
    if "mapping values are not allowed" in problem:
        return f"{problem}. Check the indentation, and quote text that holds ': '"
    return problem
