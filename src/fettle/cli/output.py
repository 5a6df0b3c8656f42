"""How commands print: JSON for programs, tables for people."""

from __future__ import annotations

from typing import Any

import click
import orjson
from rich.console import Console


def print_json(value: Any) -> None:
    """One JSON document on standard output; non-finite numbers are null."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    click.echo(orjson.dumps(value, option=options, default=str).decode())


def console() -> Console:
    """Standard output, without rich's guesses about what numbers should look like."""
    return Console(highlight=False, soft_wrap=False)


def number(value: float | None, digits: int = 4) -> str:
    """A measured number, or a dash where there is none."""
    return "—" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share as percent, or a dash where it was not measured."""
    return "—" if value is None else f"{value * 100:.1f} %"


def megabytes(size: int | None) -> str:
    """Bytes as MB, or a dash."""
    return "—" if size is None else f"{size / 1e6:.1f} MB"
