"""`fettle demo`: from nothing to a verdict in about three minutes."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("demo")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder for its model, data and runs.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
def command(out: Path, as_json: bool) -> None:
    """Build a small real model, fine-tune it past its best step, and judge the run.

    Nothing is downloaded. What is already there is kept: run it again to see the verdict again.

    \b
    Example:
      fettle demo
    """
    from fettle.cli.train import TrainingProgress
    from fettle.cli.verdict import print_verdict
    from fettle.demo import run_demo
    from fettle.train.model import require_train_extra

    require_train_extra()
    with TrainingProgress(enabled=sys.stderr.isatty()) as progress:
        run = run_demo(
            out,
            say=lambda line: click.echo(line, err=True),
            on_start=progress.start,
            on_step=progress.step,
        )
    click.echo("", err=True)
    print_verdict(run, as_json=as_json)
    if not as_json:
        click.echo(f"\nIn the browser:  fettle serve {run.parent}\nLook closer:     fettle checkpoints {run}")
