"""`fettle watch`: one run, live in the terminal."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fettle.cli.output import columns_option, console, print_json
from fettle.errors import RunError

if TYPE_CHECKING:
    from fettle.watch.watcher import Watcher

NO_TERMINAL = 2


@click.command("watch")
@click.argument("run", type=click.Path(path_type=Path), default=Path(), required=False)
@click.option("--once", is_flag=True, help="Print one snapshot and leave; for pipes and logs.")
@columns_option
@click.option("--json", "as_json", is_flag=True, help="With --once: the same facts as JSON.")
def command(run: Path, once: bool, columns: Path | None, as_json: bool) -> None:
    """Follow RUN live in the terminal: losses, evals, alerts, layers and the verdict.

    RUN is a run of fettle or of another tool, or a folder: then the newest run below it is taken (default:
    the current folder). P pauses, C cancels, S saves a checkpoint, where its trainer runs on this machine.

    \b
    Example:
      fettle watch
      fettle watch runs/<run> --once --json
    """
    from fettle.watch.watcher import Watcher

    if as_json and not once:
        raise click.UsageError("--json needs --once")
    if not once and not _is_terminal():
        click.echo(
            "fettle: watch needs a terminal. For one snapshot: fettle watch RUN --once; for the decision: "
            "fettle verdict RUN",
            err=True,
        )
        sys.exit(NO_TERMINAL)
    watcher = Watcher(_resolve(run), columns)
    if once:
        _print(watcher, as_json=as_json)
    else:
        _watch(watcher)


def _is_terminal() -> bool:
    """Whether a person sees what is drawn, and what is drawn can move the cursor."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return all(stream.isatty() for stream in streams) and os.environ.get("TERM") != "dumb"


def _resolve(run: Path) -> Path:
    """The run itself, or the newest one below a folder. Raises RunError where there is none."""
    from fettle.runs.discover import newest_run

    if not run.is_dir():
        return run
    found = newest_run(run)
    if found is None:
        where = "the current folder" if run == Path() else str(run)
        raise RunError(f"there is no run in {where}. Name one: fettle watch RUN")
    return found


def _print(watcher: Watcher, *, as_json: bool) -> None:
    from fettle.watch.snapshot import snapshot, snapshot_lines

    facts = snapshot(watcher)
    if as_json:
        print_json(facts.to_json())
        return
    out = console()
    for text in snapshot_lines(facts, shutil.get_terminal_size((100, 24)).columns):
        out.print(text, no_wrap=True, overflow="ignore", crop=False)


def _watch(watcher: Watcher) -> None:
    from fettle.watch.app import WatchApp

    app = WatchApp(watcher)
    app.run()
    if app.failure is not None:
        raise app.failure
