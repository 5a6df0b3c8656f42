"""How commands print: JSON for programs, tables for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson
from rich.console import Console

if TYPE_CHECKING:
    from fettle.runs import RunReader

columns_option = click.option(
    "--columns",
    type=click.Path(path_type=Path),
    help="YAML that names the columns of another tool's log. Default: fettle-columns.yaml beside it.",
)


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


def warn_unread(reader: RunReader) -> None:
    """On standard error, one line for everything of a run that could not be read."""
    for problem in reader.problems:
        click.echo(f"fettle: {reader.name}: not all was read: {problem}", err=True)
