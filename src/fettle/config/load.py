"""From a YAML file and overrides to a checked configuration, or to everything that is wrong with it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from fettle.config.config import Config
from fettle.config.diagnosis import Finding, Origins, findings, report
from fettle.config.document import KeyPath, parse_document, parse_value
from fettle.config.strict import Strict
from fettle.errors import ConfigError

SectionT = TypeVar("SectionT", bound=Strict)


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a YAML file, with overrides such as `training.learning_rate=1e-4`.

    Paths in it, overrides included, are relative to the file's folder and come
    out absolute. Raises ConfigError with one line for everything that is wrong.
    """
    file = Path(path)
    return parse_config(read_text(file), str(path), file.parent, overrides)


def parse_config(text: str, name: str, folder: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a YAML text, whose paths are relative to `folder`; errors call it by `name`."""
    document = parse_document(text, name)
    origins = Origins(name, document.lines, {})
    found = [
        Finding(key, f"key '{key[-1]}' stands here a second time (first in line {first}). Keep one of them")
        for key, _, first in document.duplicates
    ]
    values = copy.deepcopy(document.values)
    complaints = [text for text in (override(values, argument, origins) for argument in overrides) if text]
    try:
        config = Config.model_validate(values, context={"folder": folder.absolute()})
    except ValidationError as error:
        found += findings(error)
        config = None
    if config is None or found or complaints:
        lines = [report(found, origins)] if found else []
        raise ConfigError("\n".join([*lines, *complaints]))
    return config


def check_section(section: type[SectionT], values: Mapping[str, Any] | None, name: str) -> SectionT:
    """One section from values that no file holds. Raises ConfigError with one line for all that is wrong."""
    try:
        return section.model_validate(dict(values or {}))
    except ValidationError as error:
        raise ConfigError(report(findings(error, section), Origins(name, {}, {}))) from None


def override(values: dict[str, Any], argument: str, origins: Origins) -> str | None:
    """Sets one key in `values` as `--set` asks and notes where it came from.

    Returns what is wrong with the argument, None where nothing is. A key below
    `lora: null` makes the section again, with its defaults.
    """
    dotted, equals, text = argument.partition("=")
    path: KeyPath = tuple(part.strip() for part in dotted.split("."))
    if not equals or not all(path):
        return f"--set {argument}: must be KEY=VALUE, for example --set training.learning_rate=1e-4"
    try:
        value = parse_value(text)
    except ConfigError as error:
        return f"--set {argument}: {error}"
    section: dict[Any, Any] = values
    for part in path[:-1]:
        if section.get(part) is None:
            section[part] = {}
        inner = section[part]
        if not isinstance(inner, dict):
            return f"--set {argument}: '{part}' is not a section"
        section = cast("dict[Any, Any]", inner)
    section[path[-1]] = value
    origins.overrides[path] = argument
    return None


def read_text(path: Path) -> str:
    """The text of a configuration file. Raises ConfigError when there is none to read."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file. Name a YAML file with at least `model` and `data`"
        ) from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder. Name the YAML file in it") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}). Save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
